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
    """Overlap, volumes, lesions one by one, and false lesion. NaN: not defined for this patient.

    Of found F and reference R, and NaN where the reference is empty:

        lesion_dice                 2|F ∩ R| / (|F| + |R|)
        sensitivity                 |F ∩ R| / |R|
        detected                    1 where at least 20 % of the reference's volume is found, else 0
        detected_10ml               the same; NaN where the reference has less than 10 mL
        precision                   |F ∩ R| / |F|, 0 where nothing is found (scikit-learn)
        hd95_mm                     the larger of the two 95th percentiles of distances from surface to surface, which
                                    are the voxels that erosion takes away (MONAI); where nothing is found the
                                    diagonal of the box around the brain, the largest that could be (as BraTS)

    False lesion, what is found outside the reference:

        false_ml                    its volume, anywhere
        false_near_ml               within 10 mm of the reference; NaN where that is empty
        false_far_ml                beyond 10 mm, near and far are all; NaN where the reference is empty
        false_mirror_ml             in the mirrored reference; NaN where that is empty
        false_penumbra_ml           in the penumbra; NaN without a map
        false_free_ml               where the reference is empty, which is all that is found; NaN for other patients
        any_false_free              1 where that is a single voxel or more, else 0; NaN for other patients

    Of all patients:

        reference_ml, found_ml      volumes
        shared_ml                   volume of F ∩ R
        volume_error_ml             found − reference
        absolute_volume_error_ml    its magnitude
        crosses_25, crosses_70      1 where one volume is at least 25 (70) mL and the other is not, else 0
        dice                        as lesion_dice, and without lesion 1 where nothing is found, else 0
        lesion_f1                   tp / (tp + (fp + fn) / 2) over 26-connected components, of which a pair matches
                                    when its intersection over union is at least 0.5; both empty 1, one empty 0
                                    (ISLES'24: recognition quality of panoptica's threshold matching)
        lesion_f1_overlap           the forgiving kind of ISLES'22: a reference component that shares a voxel with
                                    `found` is a true positive, a found one that shares none a false positive
        lesion_count_difference     |number found − number in the reference| (ISLES'24)

    Mirror and penumbra may overlap with near and far. Which columns are NaN hangs on the patient alone, never on what
    is found: no mean and no paired difference leaves out the patients in whom nothing is found. What finds nothing has
    no false lesion: false_ml, and all that the catalogue calls `beside_found`, is judged beside sensitivity only.

    Args:
        found: (Z, H, W) bool, H from left to right.
        reference, brain: the same shape; the brain places the mid-sagittal plane and bounds hd95_mm; it does not
            restrict the masks.
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

    shared, found_ml, reference_ml = found & reference, volume(found), volume(reference)
    overlap, near = dice(found, reference), rim(reference, spacing)
    sensitivity = _share(shared, reference)
    detected = float(sensitivity >= DETECTED_SHARE) if any_reference else math.nan
    return {
        "lesion_dice": overlap if any_reference else math.nan,
        "sensitivity": sensitivity,
        "detected": detected,
        "detected_10ml": detected if reference_ml >= LARGE_ML else math.nan,
        "precision": (_share(shared, found) if found.any() else 0.0) if any_reference else math.nan,
        "hd95_mm": _hd95(found, reference, brain, spacing),
        "false_ml": volume(outside),
        "false_near_ml": volume(outside & near, any_reference),
        "false_far_ml": volume(outside & ~near, any_reference),
        "false_mirror_ml": volume(outside & mirrored(reference, brain), any_reference),
        "false_penumbra_ml": math.nan if penumbra is None else volume(outside & penumbra),
        "false_free_ml": volume(found, not any_reference),
        "any_false_free": math.nan if any_reference else float(found.any()),
        "reference_ml": reference_ml,
        "found_ml": found_ml,
        "shared_ml": volume(shared),
        "volume_error_ml": found_ml - reference_ml,
        "absolute_volume_error_ml": abs(found_ml - reference_ml),
        **{f"crosses_{ml}": float((found_ml >= ml) != (reference_ml >= ml)) for ml in DECISION_VOLUMES},
        "dice": overlap,
        **_one_by_one(found, reference),
    }


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """2|A ∩ B| / (|A| + |B|) of two bool arrays (Dice 1945); both empty 1, one empty 0."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else math.nan


def _hd95(found: np.ndarray, reference: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float]) -> float:
    if not reference.any():
        return math.nan
    if not found.any():
        return math.hypot(*(np.ptp(places) * mm for places, mm in zip(np.nonzero(brain), spacing, strict=True)))
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
