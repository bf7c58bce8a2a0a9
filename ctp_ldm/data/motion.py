"""How far the head moves during a perfusion scan."""

import numpy as np

COARSE_MM = 4.0
WINDOW_HU = (-200.0, 300.0)
MARGIN_MM = 10.0
LEAST_AVERAGES = 4
"""Along an axis; between fewer a movement and a change of the image cannot be told apart."""


def frame_shifts(series: np.ndarray, brain: np.ndarray, voxel_sizes: np.ndarray) -> np.ndarray:
    """Translation of each frame relative to the first, by cross-correlation of 4 mm averages to a tenth of a voxel.

    Only the brain's box and 10 mm around it are looked at, because the table stays where it is. Rotation is not looked
    for; contrast in vessels is a small part of a head, and moves the estimate by some tenths of a millimetre.

    Args:
        series: (X, Y, Z, T) HU.
        brain: (X, Y, Z) bool, not empty.
        voxel_sizes: (3,) mm.

    Returns:
        (T, 3) mm along X, Y, Z; 0 along an axis with fewer than four averages, such as that of two slices.
    """
    from skimage.measure import block_reduce
    from skimage.registration import phase_cross_correlation

    block = tuple(max(1, round(COARSE_MM / size)) for size in voxel_sizes)
    margins = np.ceil(MARGIN_MM / np.asarray(voxel_sizes)).astype(int)
    box = tuple(slice(max(0, i.min() - m), i.max() + m + 1) for i, m in zip(np.nonzero(brain), margins, strict=True))

    def coarse(t: int) -> np.ndarray:
        clipped = np.clip(series[..., t][box], *WINDOW_HU)
        return np.asarray(block_reduce(clipped, block, np.mean, cval=float(clipped.min())))

    first = coarse(0)
    flat = tuple(axis for axis, n in enumerate(first.shape) if n < LEAST_AVERAGES)
    known = [axis for axis in range(3) if axis not in flat]
    shifts = np.zeros((series.shape[-1], 3))
    if not known:
        return shifts
    for t in range(series.shape[-1]):
        pair = first.mean(axis=flat), coarse(t).mean(axis=flat)
        shifts[t, known] = phase_cross_correlation(*pair, upsample_factor=10, normalization=None)[0]
    # The shift that registers a frame is the opposite of how far it moved.
    return -shifts * np.array(block) * np.asarray(voxel_sizes)
