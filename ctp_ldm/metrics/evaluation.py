"""All metrics of one patient, as a row of the table."""

import math
from collections.abc import Sequence

import numpy as np

from ctp_ldm.metrics.contrast import contrast_metrics
from ctp_ldm.metrics.images import image_metrics
from ctp_ldm.metrics.lesions import dice, lesion_metrics
from ctp_ldm.metrics.uncertainty import uncertainty_metrics
from ctp_ldm.metrics.volumes import PatientVolumes


def evaluate_patient(volumes: PatientVolumes, spans: Sequence[float]) -> dict[str, float]:
    """Column → value; NaN where a column is not defined for this patient.

    Columns of `lesion_metrics`, where a segmenter found a lesion mask on the synthetic image; where it also looked at
    the real one, its own ceiling; then those of `contrast_metrics` and `image_metrics`, and of `uncertainty_metrics`
    where there is a deviation. The ceiling is what `lesion_metrics` calls the same without `real`:

        lesion_dice_real, false_real_ml, found_real_ml, dice_real

    A patient whose `lesion` is None has no reference, which is not the same as no lesion: of the segmenter's columns
    only found_ml and found_real_ml are then defined.

    Args:
        volumes: of the patient.
        spans: width of each target's physical range.

    Raises:
        ValueError: not as many spans as targets.
    """
    result: dict[str, float] = {}
    if volumes.found is not None:
        result |= _lesion_columns(volumes, volumes.found)
    if volumes.found_real is not None:
        result |= _ceiling(volumes, volumes.found_real)
    return result | contrast_metrics(volumes) | image_metrics(volumes, spans) | uncertainty_metrics(volumes)


def _lesion_columns(volumes: PatientVolumes, found: np.ndarray) -> dict[str, float]:
    reference = found if volumes.lesion is None else volumes.lesion
    columns = lesion_metrics(found, reference, volumes.brain, volumes.spacing, volumes.penumbra)
    if volumes.lesion is None:
        return {**dict.fromkeys(columns, math.nan), "found_ml": columns["found_ml"]}
    return columns


def _ceiling(volumes: PatientVolumes, found: np.ndarray) -> dict[str, float]:
    reference, found_ml = volumes.lesion, float(found.sum()) * volumes.voxel_ml
    if reference is None:
        overlap = lesion_overlap = false_ml = math.nan
    else:
        overlap, false_ml = dice(found, reference), float((found & ~reference).sum()) * volumes.voxel_ml
        lesion_overlap = overlap if reference.any() else math.nan
    names = ("lesion_dice_real", "false_real_ml", "found_real_ml", "dice_real")
    return dict(zip(names, (lesion_overlap, false_ml, found_ml, overlap), strict=True))
