"""Statistics over patients, never over slices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean over n patients with its 95 % bootstrap interval; low and high are NaN for fewer than two patients."""

    mean: float
    low: float
    high: float
    patients: int


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Interval:
    """Mean over patients, percentile bootstrap (Efron 1979) with 10 000 resamples of patients; NaNs are left out."""
    finite = np.array([v for v in values if not math.isnan(v)], dtype=float)
    if len(finite) == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    if len(finite) == 1:
        return Interval(float(finite[0]), math.nan, math.nan, 1)
    result = stats.bootstrap(
        (finite,), np.mean, n_resamples=RESAMPLES, method="percentile", vectorized=True, rng=np.random.default_rng(seed)
    )
    low, high = result.confidence_interval
    return Interval(float(finite.mean()), float(low), float(high), len(finite))


def mean_over_patients(patients: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the patients that have it; metrics that nobody has are left out."""
    names = {name for row in patients.values() for name in row}
    means = {}
    for name in sorted(names):
        values = [row[name] for row in patients.values() if not math.isnan(row[name])]
        if values:
            means[name] = sum(values) / len(values)
    return means
