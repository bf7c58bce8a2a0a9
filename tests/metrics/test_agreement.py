"""Agreement over patients: published examples, other formulas, resampling."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import confusion_matrix
from torchmetrics.functional.regression import concordance_corrcoef

from ctp_ldm.metrics import (
    StatisticsError,
    bland_altman,
    bootstrap_mean,
    by_stratum,
    ccc,
    decisions,
    icc,
    proportion,
)

# Shrout & Fleiss 1979, table 2: six targets by four judges.
JUDGES = [[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]]


def pairs(n: int, seed: int = 0) -> tuple[list[float], list[float]]:
    generator = np.random.default_rng(seed)
    reference = generator.lognormal(2.7, 1.0, n)
    return (reference * 0.9 + generator.normal(2, 6, n)).tolist(), reference.tolist()


# --------------------------------------------------------------------------------------------------------- Bland–Altman


def test_limits_by_hand() -> None:
    result = bland_altman([1.0, 4.0, 3.0], [0.0, 2.0, 0.0])
    assert result.bias.value == pytest.approx(2)
    assert result.lower.value == pytest.approx(2 - 1.96, abs=1e-4)
    assert result.upper.value == pytest.approx(2 + 1.96, abs=1e-4)
    assert result.bias.patients == 3


def test_the_interval_of_the_bias_is_that_of_the_t_test() -> None:
    found, reference = pairs(20)
    expected = stats.ttest_rel(found, reference).confidence_interval()
    result = bland_altman(found, reference).bias
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))


def test_limits_hold_95_percent_and_their_interval_the_true_limit_in_95_percent() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        upper = bland_altman(generator.normal(1.0, 3.0, 40).tolist(), [0.0] * 40).upper
        held += upper.low <= 1.0 + 1.959964 * 3.0 <= upper.high
    assert held / 400 == pytest.approx(0.95, abs=0.025)


def test_few_patients_have_no_limits() -> None:
    one = bland_altman([3.0, math.nan], [1.0, 2.0])
    assert (one.bias.value, one.bias.patients) == (2.0, 1)
    assert math.isnan(one.bias.low)
    assert math.isnan(one.upper.value)
    assert math.isnan(bland_altman([], []).bias.value)


# ------------------------------------------------------------------------------------------------------------------ ICC


def test_the_example_of_shrout_and_fleiss() -> None:
    """ICC(2,1) = 0.29; the interval is that of R's psych and irr."""
    result = icc(*JUDGES)
    assert result.value == pytest.approx(0.2898, abs=5e-5)
    assert result.low == pytest.approx(0.0188, abs=5e-4)
    assert result.high == pytest.approx(0.7611, abs=5e-4)
    assert result.patients == 6


def test_a_constant_error_lowers_absolute_agreement() -> None:
    _, reference = pairs(30)
    assert icc(reference, reference).value == pytest.approx(1)
    assert icc([v + 20 for v in reference], reference).value < 0.9


def test_the_interval_holds_the_true_coefficient_in_95_percent() -> None:
    """Patients with SD 2, raters with SD 0 and noise with SD 1: 4 / 5."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        truth = generator.normal(0, 2, 25)
        result = icc(*((truth + generator.normal(size=25)).tolist() for _ in range(2)))
        held += result.low <= 0.8 <= result.high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


def test_perfect_agreement_has_an_interval_of_no_width() -> None:
    result = icc([1.0, 5.0, 9.0], [1.0, 5.0, 9.0])
    assert (result.low, result.high) == pytest.approx((1, 1))


@pytest.mark.parametrize("coefficient", [icc, ccc])
def test_equal_volumes_have_no_coefficient(coefficient: object) -> None:
    for found, reference in ([[], []], [[1.0], [2.0]], [[3.0] * 4, [3.0] * 4], [[math.nan, 1.0], [1.0, 2.0]]):
        assert math.isnan(coefficient(found, reference).value)  # type: ignore[operator]


# ------------------------------------------------------------------------------------------------------------------ CCC


def test_ccc_by_hand() -> None:
    """Means 2 and 3, variances 2/3 and 2/3 over n, covariance 2/3."""
    assert ccc([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]).value == pytest.approx(2 * (2 / 3) / (4 / 3 + 1))


def test_ccc_of_many_is_that_of_torchmetrics() -> None:
    found, reference = pairs(5000)
    expected = concordance_corrcoef(torch.tensor(found).double(), torch.tensor(reference).double())
    assert ccc(found, reference).value == pytest.approx(float(expected), abs=1e-4)


def test_the_interval_of_ccc_is_that_of_resampling() -> None:
    """Of normal volumes, which is what Lin's formula assumes."""
    generator = np.random.default_rng(0)
    reference = generator.normal(30, 10, 300)
    found = 0.8 * reference + generator.normal(10, 5, 300)

    def coefficient(a: np.ndarray, b: np.ndarray) -> float:
        return float(2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2))

    resampled = stats.bootstrap(
        (found, reference), coefficient, paired=True, vectorized=False, n_resamples=2000, rng=generator
    )
    result = ccc(found.tolist(), reference.tolist())
    assert result.value == pytest.approx(coefficient(found, reference))
    assert result.low == pytest.approx(resampled.confidence_interval.low, abs=0.01)
    assert result.high == pytest.approx(resampled.confidence_interval.high, abs=0.01)


def test_agreement_without_interval() -> None:
    perfect, two, unrelated = (
        ccc([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]),
        ccc([1.0, 2.0], [1.0, 3.0]),
        ccc([1.0, 2.0, 1.0], [1.0, 1.0, 1.0]),
    )
    assert perfect.value == pytest.approx(1)
    assert two.value == pytest.approx(2 * 0.5 / (0.25 + 1 + 0.25))
    assert unrelated.value == 0
    assert math.isnan(perfect.low)
    assert math.isnan(two.low)
    assert math.isnan(unrelated.high)


# ------------------------------------------------------------------------------------------------------------ decisions


def test_decisions_are_those_of_scikit_learn() -> None:
    found, reference = pairs(60)
    result = decisions(found, reference, 25.0)
    expected = confusion_matrix([v >= 25 for v in reference], [v >= 25 for v in found]).ravel().tolist()
    counts = [result.true_negative, result.false_positive, result.false_negative, result.true_positive]
    assert counts == expected
    assert result.sensitivity.mean == expected[3] / (expected[3] + expected[2])
    assert result.specificity.mean == expected[0] / (expected[0] + expected[1])
    assert result.sensitivity.patients + result.specificity.patients == 60


def test_the_threshold_itself_is_large_and_nobody_large_has_no_sensitivity() -> None:
    result = decisions([25.0, 24.9], [24.9, 10.0], 25.0)
    assert (result.false_positive, result.true_negative) == (1, 1)
    assert math.isnan(result.sensitivity.mean)
    assert result.specificity.mean == 0.5


# --------------------------------------------------------------------------------------------------------------- strata


def test_strata_hold_their_lower_edge() -> None:
    volumes = [0.0, 0.4, 1.0, 9.9, 10.0, 70.0, 500.0, math.nan]
    values = [9.0, 1.0, 2.0, 4.0, 5.0, 6.0, 8.0, 100.0]
    found = by_stratum(volumes, values)
    assert list(found) == ["no lesion", "< 1 mL", "1–10 mL", "10–70 mL", "≥ 70 mL"]
    assert {name: interval.mean for name, interval in found.items() if interval.patients} == {
        "no lesion": 9.0,
        "< 1 mL": 1.0,
        "1–10 mL": 3.0,
        "10–70 mL": 5.0,
        "≥ 70 mL": 7.0,
    }
    assert by_stratum(volumes[:4], values[:4])["10–70 mL"].patients == 0
    assert found["1–10 mL"] == bootstrap_mean([2.0, 4.0])


def test_detection_has_wilson_intervals() -> None:
    found = by_stratum([2.0] * 10 + [0.0], [1.0] * 10 + [math.nan], summary=proportion)
    assert found["1–10 mL"].mean == 1
    assert found["1–10 mL"].low == pytest.approx(0.722, abs=1e-3)  # n / (n + z²)
    assert found["no lesion"].patients == 0


def test_edges_are_chosen() -> None:
    assert list(by_stratum([], [], edges=(0.1, 10))) == ["no lesion", "< 0.1 mL", "0.1–10 mL", "≥ 10 mL"]


@pytest.mark.parametrize("compare", [bland_altman, icc, ccc, lambda a, b: decisions(a, b, 25.0), by_stratum])
def test_columns_of_different_length_are_refused(compare: object) -> None:
    with pytest.raises(StatisticsError):
        compare([1.0, 2.0], [1.0])  # type: ignore[operator]


def test_raters_who_each_say_the_same_of_all_patients_agree_in_nothing() -> None:
    """All variance is between raters, none between patients: 0, without an interval."""
    found = icc([1.0] * 3, [2.0] * 3)
    assert found.value == 0
    assert math.isnan(found.low)
    assert math.isnan(found.high)
