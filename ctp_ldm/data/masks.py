"""Which voxels a mask file sets, whatever it stores for 1, and what a lesion mask cannot be."""

import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.volumes import Volume

LEAST_TOP = 0.5
"""A mask says 1 somewhere, or after resampling at least half of it; less is a lost scale."""
LABELS = 10
LARGEST_SHARE = 0.6
"""A hemisphere is half of the brain, and swelling adds a fifth of that; nobody is scanned for more."""
FAINT = 0.05


def set_voxels(volume: Volume) -> np.ndarray:
    """The voxels above half of the file's maximum, so that 0/1, 0/255, 0/65535 and resampled masks say the same.

    Args:
        volume: (X, Y, Z), of any scale.

    Returns:
        (X, Y, Z) bool; none where the whole file is 0.

    Raises:
        DataFault: voxels differ from 0 and none reaches 0.5, none is 0, or the file holds several labels.
    """
    values = volume.values
    bottom, top, found = float(values.min()), float(values.max()), int(np.count_nonzero(values))
    if found and top < LEAST_TOP:
        raise DataFault(
            f"{volume.path} has {found} voxels that are not 0, and none reaches {LEAST_TOP} (at most {top:.3g}); "
            "expected a mask of 0 and 1: the header's scl_slope is wrong, or resampling has blurred it away: repair "
            "the header, or resample the mask by nearest neighbour"
        )
    if 0 < bottom < top:
        raise DataFault(
            f"{volume.path} is 0 nowhere, but {bottom:.4g} to {top:.4g}; expected a mask that is 0 outside: the "
            "header's scl_inter is wrong, or the file is no mask"
        )
    labels = _labels(values)
    if len(labels) > 1:
        raise DataFault(
            f"{volume.path} holds the labels {', '.join(f'{label:g}' for label in labels)}; expected a mask of one: "
            "write a file in which only what is meant differs from 0"
        )
    return np.asarray(values > top / 2)


def require_possible_lesion(volume: Volume, brain: np.ndarray) -> None:
    """Refuse a lesion mask that is something else: a brain mask, an image, a mask the wrong way round.

    Args:
        volume: of the mask, (X, Y, Z), which `set_voxels` accepts.
        brain: (X, Y, Z) bool, not empty.

    Raises:
        DataFault: it covers more than 60 % of the brain, or is no mask but has values nearly everywhere.
    """
    share = float(set_voxels(volume)[brain].mean())
    if share > LARGEST_SHARE:
        raise DataFault(
            f"{volume.path} covers {share:.0%} of the brain; expected at most {LARGEST_SHARE:.0%}, more than any "
            "infarct: it is a brain mask, or the wrong way round; give the lesion mask"
        )
    faint = float((volume.values[brain] > FAINT * volume.values.max()).mean())
    if faint > LARGEST_SHARE:
        raise DataFault(
            f"{volume.path} is above 0 in {faint:.0%} of the brain, with values of all sizes up to "
            f"{volume.values.max():.4g}; expected a mask of 0 and 1: it is an image; give the lesion mask"
        )


def _labels(values: np.ndarray) -> list[float]:
    """The values other than 0 where they are a few whole numbers that no blurring makes; one or none otherwise."""
    if np.abs(values - np.rint(values)).max() > 1e-3:
        return []
    labels = [float(label) for label in np.unique(np.rint(values)) if label != 0]
    small = bool(labels) and labels[-1] <= LABELS
    # 1 and 255, say; a rim of blurred voxels would have values between.
    apart = len(labels) == 2 and labels[0] <= labels[1] / LABELS
    return labels if small or apart else []
