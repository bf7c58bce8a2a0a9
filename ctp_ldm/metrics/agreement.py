"""Agreement of lesion volumes over patients."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from ctp_ldm.metrics.statistics import Interval, StatisticsError, bootstrap_mean, proportion

STRATA_ML = (1.0, 10.0, 70.0)


@dataclass(frozen=True)
class Estimate:
    """A coefficient or limit estimated from n patients, with its 95 % interval; NaN where n is too small for it."""

    value: float
    low: float
    high: float
    patients: int


@dataclass(frozen=True)
class BlandAltman:
    """Mean difference, and the limits between which 95 % of differences lie if they are normal."""

    bias: Estimate
    lower: Estimate
    upper: Estimate


@dataclass(frozen=True)
class Decisions:
    """Patients at or above a volume, found against reference."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    sensitivity: Interval
    specificity: Interval


def bland_altman(found: Sequence[float], reference: Sequence[float]) -> BlandAltman:
    """Bias, the mean of found − reference, and limits of agreement bias ± 1.96 SD (Bland & Altman 1986, 1999).

    Their intervals are bias ± t SD/√n and limit ± t SD √(1/n + 1.96² / (2(n − 1))), t with n − 1 degrees of freedom.
    Patients for whom either volume is NaN are left out; with one patient there is a bias alone, with none all is NaN.

    Raises:
        StatisticsError: the two are not equally long.
    """
    ratings = _ratings(found, reference)
    differences = ratings[:, 0] - ratings[:, 1]
    n = len(differences)
    bias = float(differences.mean()) if n else math.nan
    deviation = float(differences.std(ddof=1)) if n > 1 else math.nan
    z = float(stats.norm.ppf(0.975))
    t = float(stats.t.ppf(0.975, n - 1)) if n > 1 else math.nan

    def estimate(value: float, standard_error: float) -> Estimate:
        return Estimate(value, value - t * standard_error, value + t * standard_error, n)

    of_limit = deviation * math.sqrt(1 / n + z**2 / (2 * (n - 1))) if n > 1 else math.nan
    return BlandAltman(
        bias=estimate(bias, deviation / math.sqrt(n) if n else math.nan),
        lower=estimate(bias - z * deviation, of_limit),
        upper=estimate(bias + z * deviation, of_limit),
    )


def icc(*raters: Sequence[float]) -> Estimate:
    """ICC(2,1): two-way random effects, absolute agreement, single rater (Shrout & Fleiss 1979).

    The interval is that of McGraw & Wong 1996, table 7, ICC(A,1). Patients for whom a rating is NaN are left out; NaN
    for fewer than two patients, or where all ratings are equal; without interval where
    each rater says the same of all patients.

    Args:
        raters: the ratings of at least two raters, each over the same n patients; here found and reference volumes.

    Raises:
        StatisticsError: they are not equally long.
    """
    ratings = _ratings(*raters)
    n, k = ratings.shape
    if n < 2 or np.ptp(ratings) == 0:
        return Estimate(math.nan, math.nan, math.nan, n)
    mean = ratings.mean()
    patients, judges = ratings.mean(1, keepdims=True), ratings.mean(0, keepdims=True)
    between_patients = k * float(((patients - mean) ** 2).sum()) / (n - 1)
    between_judges = n * float(((judges - mean) ** 2).sum()) / (k - 1)
    residual = float(((ratings - patients - judges + mean) ** 2).sum()) / ((n - 1) * (k - 1))
    noise = k * between_judges + (k * n - k - n) * residual
    value = n * (between_patients - residual) / (n * between_patients + noise)
    if 1 - value < 1e-12:  # the interval's formula divides by what remains
        return Estimate(value, value, value, n)
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    if (a * between_judges) ** 2 + (b * residual) ** 2 == 0:
        return Estimate(value, math.nan, math.nan, n)
    freedom = (a * between_judges + b * residual) ** 2 / (
        (a * between_judges) ** 2 / (k - 1) + (b * residual) ** 2 / ((n - 1) * (k - 1))
    )
    below, above = stats.f.ppf(0.975, n - 1, freedom), stats.f.ppf(0.975, freedom, n - 1)
    low = n * (between_patients - below * residual) / (below * noise + n * between_patients)
    high = n * (above * between_patients - residual) / (noise + n * above * between_patients)
    return Estimate(value, float(low), float(high), n)


def ccc(found: Sequence[float], reference: Sequence[float]) -> Estimate:
    """Concordance correlation, 2 s_fr / (s_f² + s_r² + (mean difference)²) with moments over n (Lin 1989).

    torchmetrics divides the moments by n − 1, which is another number for few patients. The interval is Lin's, by
    Fisher's z, with the correction of 2000. Patients for whom either volume is NaN are left out; NaN for fewer than
    two patients or where all volumes are equal, without interval for fewer than three, a correlation of 0 or perfect
    agreement.

    Raises:
        StatisticsError: the two are not equally long.
    """
    ratings = _ratings(found, reference)
    n = len(ratings)
    if n < 2 or np.ptp(ratings) == 0:
        return Estimate(math.nan, math.nan, math.nan, n)
    (of_found, shared), (_, of_reference) = np.cov(ratings.T, ddof=0).tolist()
    shift = float(ratings[:, 0].mean() - ratings[:, 1].mean())
    value = 2 * shared / (of_found + of_reference + shift**2)
    if n < 3 or shared == 0 or 1 - abs(value) < 1e-12:
        return Estimate(value, math.nan, math.nan, n)
    r2 = shared**2 / (of_found * of_reference)
    # Lin's c³(…)u²/r and c⁴u⁴/r², of u² = shift² / (s_f s_r), written without u and r.
    ratio, c = shift**2 / shared, value
    variance = ((1 - r2) * c**2 * (1 - c**2) / r2 + 2 * c**3 * (1 - c) * ratio - c**4 * ratio**2 / 2) / (
        (n - 2) * (1 - c**2) ** 2
    )
    reach = float(stats.norm.ppf(0.975)) * math.sqrt(variance)
    return Estimate(c, math.tanh(math.atanh(c) - reach), math.tanh(math.atanh(c) + reach), n)


def decisions(found: Sequence[float], reference: Sequence[float], threshold_ml: float) -> Decisions:
    """Patients sorted by whether their volumes are at least `threshold_ml`, with Wilson's intervals.

    Sensitivity is the share of patients found to be so among those who are, specificity that of patients found not to
    be among those who are not; NaN where there are none. Patients for whom either volume is NaN are left out.

    Raises:
        StatisticsError: the two are not equally long.
    """
    large, truly = (_ratings(found, reference) >= threshold_ml).T
    return Decisions(
        true_positive=int((large & truly).sum()),
        false_positive=int((large & ~truly).sum()),
        false_negative=int((~large & truly).sum()),
        true_negative=int((~large & ~truly).sum()),
        sensitivity=proportion(large[truly].astype(float).tolist()),
        specificity=proportion((~large[~truly]).astype(float).tolist()),
    )


def by_stratum(
    reference_ml: Sequence[float],
    values: Sequence[float],
    edges: Sequence[float] = STRATA_ML,
    summary: Callable[[Sequence[float]], Interval] = bootstrap_mean,
) -> dict[str, Interval]:
    """A column summarised for patients of like reference volume: "no lesion", "< 1 mL", "1–10 mL", …, "≥ 70 mL".

    A stratum holds its lower edge; patients without reference volume are in none. All strata come back, empty ones
    with NaN. For detection, `summary=proportion`.

    Args:
        reference_ml, values: of the same patients.
        edges: in mL, ascending.
        summary: of the values of a stratum.

    Raises:
        StatisticsError: the two are not equally long.
    """
    if len(reference_ml) != len(values):
        raise StatisticsError(f"{len(reference_ml)} volumes, but {len(values)} values")
    names = [
        "no lesion",
        f"< {edges[0]:g} mL",
        *(f"{low:g}–{high:g} mL" for low, high in pairwise(edges)),
        f"≥ {edges[-1]:g} mL",
    ]
    members: dict[str, list[float]] = {name: [] for name in names}
    for volume, value in zip(reference_ml, values, strict=True):
        if not math.isnan(volume):
            members[names[int(np.digitize(volume, edges)) + 1] if volume > 0 else names[0]].append(value)
    return {name: summary(of_stratum) for name, of_stratum in members.items()}


def _ratings(*raters: Sequence[float]) -> np.ndarray:
    """(n, k) ratings of the patients that every rater has rated."""
    if len({len(ratings) for ratings in raters}) != 1:
        raise StatisticsError(f"raters have different numbers of patients: {[len(r) for r in raters]}")
    ratings = np.array(raters, dtype=float).T
    return ratings[~np.isnan(ratings).any(axis=1)]
