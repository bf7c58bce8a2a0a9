"""The lesion found on a synthetic image against the reference mask, for one patient."""

import math
import warnings

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance

from ctp_ldm.metrics.regions import components, mirrored, rim

# Treatment trials and guidelines select patients by core volume below or above these (mL).
DECISION_VOLUMES = (25, 70)
SAME_LESION = 0.5
DETECTED_SHARE = 0.2
"""Of a lesion's volume: a voxel that both masks happen to share detects nothing."""
LARGE_ML = 10.0


def lesion_metrics(
    found: np.ndarray,
    reference: np.ndarray,
    brain: np.ndarray,
    spacing: tuple[float, float, float],
    penumbra: np.ndarray | None = None,
) -> dict[str, float]:
    """Overlap, volumes, lesions one by one, and where lesion was invented. NaN: not defined for this patient.

        dice                        2|F ∩ R| / (|F| + |R|); both empty 1, one empty 0
        lesion_dice                 the same; NaN where the reference is empty
        hd95_mm                     the larger of the two 95th percentiles of distances from surface to surface, which
                                    are the voxels that erosion takes away (MONAI); NaN where either mask is empty
        reference_ml, found_ml      volumes
        volume_error_ml             found − reference
        absolute_volume_error_ml    its magnitude
        lesion_f1                   tp / (tp + (fp + fn) / 2) over 26-connected components, of which a pair matches
                                    when its intersection over union is at least 0.5; both empty 1, one empty 0
                                    (ISLES'24: recognition quality of panoptica's threshold matching)
        lesion_f1_overlap           the forgiving kind of ISLES'22: a reference component that shares a voxel with
                                    `found` is a true positive, a found one that shares none a false positive
        lesion_count_difference     |number found − number in the reference| (ISLES'24)
        found_share                 |F ∩ R| / |R|; NaN where the reference is empty
        detected                    1 where at least 20 % of the reference's volume is found, else 0; NaN where it is
                                    empty
        detected_10ml               the same; NaN where the reference has less than 10 mL
        hallucinated_ml             found outside the reference, anywhere
        hallucinated_free_ml        all that is found where the reference is empty; NaN for other patients
        hallucinated_rim_ml         found within 10 mm of the reference, outside it; NaN where the reference is empty
        hallucinated_mirror_ml      found in the mirrored reference, outside the reference; NaN where that is empty
        hallucinated_penumbra_ml    found in the penumbra, outside the reference; NaN without a map
        decision_25, decision_70    1 when both volumes are at least 25 (70) mL or both below, else 0

    The parts of the hallucinated volume may overlap (a lesion near the midline has its mirror in its rim) and leave a
    remainder: they do not add up to the whole.

    Args:
        found: (Z, H, W) bool, H from left to right.
        reference, brain: the same shape; the brain places the mid-sagittal plane, it does not restrict the masks.
        spacing: (Z, H, W) voxel size in mm.
        penumbra: the same shape, or None.

    Raises:
        ValueError: a mask is not bool, or of another shape than `found`.
    """
    for name, mask in {"found": found, "reference": reference, "brain": brain, "penumbra": penumbra}.items():
        if mask is not None and (mask.dtype != bool or mask.shape != found.shape):
            raise ValueError(f"{name} is {mask.dtype} of shape {mask.shape}; expected bool of {found.shape}")
    voxel_ml = math.prod(spacing) / 1000
    outside = found & ~reference
    any_reference = bool(reference.any())

    def volume(mask: np.ndarray, defined: bool = True) -> float:
        return float(mask.sum()) * voxel_ml if defined else math.nan

    found_ml, reference_ml = volume(found), volume(reference)
    share = float((found & reference).sum() / reference.sum()) if any_reference else math.nan
    detected = float(share >= DETECTED_SHARE) if any_reference else math.nan
    overlap = dice(found, reference)
    return {
        "dice": overlap,
        "lesion_dice": overlap if any_reference else math.nan,
        "hd95_mm": _hd95(found, reference, spacing),
        "reference_ml": reference_ml,
        "found_ml": found_ml,
        "volume_error_ml": found_ml - reference_ml,
        "absolute_volume_error_ml": abs(found_ml - reference_ml),
        **_one_by_one(found, reference),
        "found_share": share,
        "detected": detected,
        "detected_10ml": detected if reference_ml >= LARGE_ML else math.nan,
        "hallucinated_ml": volume(outside),
        "hallucinated_free_ml": volume(found, not any_reference),
        "hallucinated_rim_ml": volume(outside & rim(reference, spacing), any_reference),
        "hallucinated_mirror_ml": volume(outside & mirrored(reference, brain), any_reference),
        "hallucinated_penumbra_ml": math.nan if penumbra is None else volume(outside & penumbra),
        **{f"decision_{ml}": float((found_ml >= ml) == (reference_ml >= ml)) for ml in DECISION_VOLUMES},
    }


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """2|A ∩ B| / (|A| + |B|) of two bool arrays (Dice 1945); both empty 1, one empty 0."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def _hd95(found: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]) -> float:
    if not (found.any() and reference.any()):
        return math.nan
    one, other = (torch.from_numpy(mask)[None, None] for mask in (found, reference))
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that it passes itself.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        distance = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=list(spacing))
    return float(distance)


def _one_by_one(found: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    found_labels, found_count = components(found)
    labels, count = components(reference)
    both = found & reference
    pairs, shared = np.unique(np.stack([found_labels[both], labels[both]]), axis=1, return_counts=True)
    union = np.bincount(found_labels.ravel())[pairs[0]] + np.bincount(labels.ravel())[pairs[1]] - shared
    # At 0.5 no component can match two: their voxels and at least one between them would have to fit into it.
    matched = int((shared >= SAME_LESION * union).sum())
    touched, touching = len(np.unique(pairs[1])), len(np.unique(pairs[0]))
    return {
        "lesion_f1": _f1(matched, found_count - matched, count - matched),
        "lesion_f1_overlap": _f1(touched, found_count - touching, count - touched),
        "lesion_count_difference": float(abs(found_count - count)),
    }


def _f1(true_positives: int, false_positives: int, false_negatives: int) -> float:
    total = true_positives + (false_positives + false_negatives) / 2
    return true_positives / total if total else 1.0
