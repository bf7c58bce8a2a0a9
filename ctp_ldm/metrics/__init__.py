"""Image metrics per patient in physical units, and statistics over patients."""

from ctp_ldm.metrics.patients import PatientMetrics, balanced_mae
from ctp_ldm.metrics.statistics import Interval, bootstrap_mean, mean_over_patients

__all__ = ["Interval", "PatientMetrics", "balanced_mae", "bootstrap_mean", "mean_over_patients"]
