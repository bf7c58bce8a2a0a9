"""What is measured of a patient, and what is concluded over patients.

A patient's columns come from `evaluate_patient`, which reads `PatientVolumes` and puts together `lesion_metrics`,
`contrast_metrics`, `image_metrics` and `uncertainty_metrics`; `describe` says what a column is called and which way is
better. Over patients there are `statistics.py` (means, pairs, tests), `chains.py` (trainings), `judgement.py` (better,
worse) and `agreement.py` (volumes).
`PatientMetrics` gathers the image errors slice by slice while a network is trained, without holding volumes.
"""

from ctp_ldm.metrics.agreement import (
    BlandAltman,
    Decisions,
    Estimate,
    bland_altman,
    by_stratum,
    ccc,
    decisions,
    icc,
)
from ctp_ldm.metrics.catalogue import METRICS, Metric, UnknownMetric, describe
from ctp_ldm.metrics.chains import chains_difference, chains_mean
from ctp_ldm.metrics.contrast import contrast_metrics
from ctp_ldm.metrics.evaluation import evaluate_patient
from ctp_ldm.metrics.features import frechet_distance
from ctp_ldm.metrics.images import image_metrics
from ctp_ldm.metrics.judgement import FINDS_LESS, FOUND, Finds, finds, judgement
from ctp_ldm.metrics.lesions import lesion_metrics
from ctp_ldm.metrics.overlap import LesionOverlap
from ctp_ldm.metrics.patients import PatientMetrics, balanced_mae
from ctp_ldm.metrics.statistics import (
    Difference,
    Interval,
    StatisticsError,
    average_seeds,
    bootstrap_mean,
    holm,
    mean_over_patients,
    no_worse,
    proportion,
    seed_deviation,
)
from ctp_ldm.metrics.uncertainty import calibration_curve, uncertainty_metrics
from ctp_ldm.metrics.volumes import PatientVolumes, VolumesError

__all__ = [
    "FINDS_LESS",
    "FOUND",
    "METRICS",
    "BlandAltman",
    "Decisions",
    "Difference",
    "Estimate",
    "Finds",
    "Interval",
    "LesionOverlap",
    "Metric",
    "PatientMetrics",
    "PatientVolumes",
    "StatisticsError",
    "UnknownMetric",
    "VolumesError",
    "average_seeds",
    "balanced_mae",
    "bland_altman",
    "bootstrap_mean",
    "by_stratum",
    "calibration_curve",
    "ccc",
    "chains_difference",
    "chains_mean",
    "contrast_metrics",
    "decisions",
    "describe",
    "evaluate_patient",
    "finds",
    "frechet_distance",
    "holm",
    "icc",
    "image_metrics",
    "judgement",
    "lesion_metrics",
    "mean_over_patients",
    "no_worse",
    "proportion",
    "seed_deviation",
    "uncertainty_metrics",
]
