"""Statistics over patients, never over slices."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

RESAMPLES = 10_000


class StatisticsError(ValueError):
    """Numbers that cannot be compared or summarised as asked."""


@dataclass(frozen=True)
class Interval:
    """A mean over n patients with its 95 % interval; low and high are NaN where there is none.

    A bootstrap interval needs two patients, Wilson's interval of a share one.
    """

    mean: float
    low: float
    high: float
    patients: int


@dataclass(frozen=True)
class Difference(Interval):
    """A mean of differences with the two-sided p-value of the test that its interval belongs to.

    The interval excludes 0 where p is less than 0.05, and only there; p is NaN where there is no interval.
    """

    p: float


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


def proportion(values: Sequence[float]) -> Interval:
    """Share of patients with value 1 among those with 0 or 1, Wilson's interval (1927); NaNs are left out.

    For yes-or-no columns the bootstrap would give an interval of no width where all patients agree.

    Raises:
        StatisticsError: a value is neither 0, 1 nor NaN.
    """
    known = [v for v in values if not math.isnan(v)]
    if not set(known) <= {0, 1}:
        raise StatisticsError(f"expected values 0 and 1, found {sorted(set(known) - {0, 1})[:5]}")
    if not known:
        return Interval(math.nan, math.nan, math.nan, 0)
    test = stats.binomtest(int(sum(known)), len(known))
    interval = test.proportion_ci(method="wilson")
    return Interval(test.statistic, float(interval.low), float(interval.high), len(known))


def mean_over_patients(patients: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the patients that have it; metrics that nobody has are left out."""
    names = {name for row in patients.values() for name in row}
    means = {}
    for name in sorted(names):
        values = [row[name] for row in patients.values() if not math.isnan(row[name])]
        if values:
            means[name] = sum(values) / len(values)
    return means


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-value of each comparison (Holm 1979): at most α for those that the step-down test rejects at α.

    In ascending order of p, equal ones as given, the i-th of m is multiplied by m − i + 1 and is at least the one
    before it, at most 1. The m are all that is passed: whoever calls says which comparisons these are.

    Raises:
        StatisticsError: a value is not a probability.
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise StatisticsError(f"p-value of {name} is {value}; expected a number from 0 to 1")
    adjusted: dict[str, float] = {}
    before = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        before = max(before, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = before
    return {name: adjusted[name] for name in p_values}


def no_worse(difference: Interval, margin: float, higher_is_better: bool) -> bool:
    """Whether the 95 % interval of ours − theirs excludes that ours is worse by the margin or more.

    The interval is two-sided; its end on the worse side is a one-sided bound of 97.5 %, as ICH E9 (3.3.2) has it. The
    margin is the metric's own, named before the results are seen. A difference without interval shows nothing; False is
    "not shown to be no worse", which is not "worse".

    Args:
        difference: from `chains_difference`, of the metric itself.
        margin: in the metric's unit, more than 0.
        higher_is_better: of the metric.

    Raises:
        StatisticsError: the margin is not more than 0.
    """
    if not margin > 0:
        raise StatisticsError(f"a margin of non-inferiority is more than 0, found {margin}")
    return difference.low > -margin if higher_is_better else difference.high < margin


def average_seeds(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean of each patient's metrics over runs that differ in their seed; a row for each patient, a column each metric.

    A value that is NaN in some runs is the mean over the others.

    Args:
        runs: tables with patients as index, of the same patients and columns; at least one.

    Raises:
        StatisticsError: the patients or columns differ; it names them.
    """
    _require_same_tables(runs)
    return pd.concat(runs).groupby(level=0).mean()[list(runs[0].columns)]


def seed_deviation(runs: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Standard deviation (n − 1) over seeds of each metric's mean over patients; NaN for fewer than two runs.

    Raises:
        StatisticsError: the patients or columns differ; it names them.
    """
    _require_same_tables(runs)
    means = pd.DataFrame([run.mean() for run in runs])
    return {str(name): float(value) for name, value in means.std(ddof=1).items()}


def _require_same_tables(runs: Sequence[pd.DataFrame]) -> None:
    for run in runs:
        require_same(set(runs[0].index), set(run.index), "patients")
        require_same(set(runs[0].columns), set(run.columns), "metrics")


def require_same(ours: Set[str], theirs: Set[str], what: str) -> None:
    """Raises StatisticsError: the two are not equal; it names what is in one alone."""
    if odd := sorted(ours ^ theirs):
        raise StatisticsError(f"different {what}: {odd[:5]}{' …' if len(odd) > 5 else ''} are not in both")
