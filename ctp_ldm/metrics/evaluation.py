"""All metrics of one patient, as a row of the table."""

import math
from collections.abc import Sequence

import numpy as np

from ctp_ldm.metrics.images import image_metrics
from ctp_ldm.metrics.lesions import dice, lesion_metrics
from ctp_ldm.metrics.uncertainty import uncertainty_metrics
from ctp_ldm.metrics.volumes import PatientVolumes


def evaluate_patient(volumes: PatientVolumes, spans: Sequence[float]) -> dict[str, float]:
    """Column → value; NaN where a column is not defined for this patient.

    Columns of `image_metrics`; of `uncertainty_metrics` where there is a deviation; of `lesion_metrics` where a
    segmenter found a lesion mask on the synthetic image; and where it also looked at the real one, its own ceiling:

        dice_real       Dice of the lesion found on the real image; both empty 1, one empty 0
        found_real_ml   its volume

    A patient whose `lesion` is None has no reference, which is not the same as no lesion: of the lesion columns only
    found_ml and found_real_ml are then defined.

    Args:
        volumes: of the patient.
        spans: width of each target's physical range.

    Raises:
        ValueError: not as many spans as targets.
    """
    result = image_metrics(volumes, spans) | uncertainty_metrics(volumes)
    reference, found, found_real = volumes.lesion, volumes.found, volumes.found_real
    if found is not None:
        result |= _lesion_columns(volumes, found)
    if found_real is not None:
        result["dice_real"] = math.nan if reference is None else dice(found_real, reference)
        result["found_real_ml"] = float(found_real.sum()) * volumes.voxel_ml
    return result


def _lesion_columns(volumes: PatientVolumes, found: np.ndarray) -> dict[str, float]:
    reference = found if volumes.lesion is None else volumes.lesion
    columns = lesion_metrics(found, reference, volumes.brain, volumes.spacing, volumes.penumbra)
    if volumes.lesion is None:
        return {**dict.fromkeys(columns, math.nan), "found_ml": columns["found_ml"]}
    return columns
