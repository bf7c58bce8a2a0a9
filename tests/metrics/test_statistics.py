"""Means over patients with their intervals, pairs, seeds and tests."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ctp_ldm.metrics import (
    Interval,
    StatisticsError,
    average_seeds,
    bootstrap_mean,
    holm,
    no_worse,
    proportion,
    seed_deviation,
)


def test_the_interval_of_a_large_normal_sample_is_that_of_normal_theory() -> None:
    sample = np.random.default_rng(0).normal(10.0, 3.0, 400)
    found = bootstrap_mean(sample.tolist())
    low, high = stats.norm.interval(0.95, sample.mean(), sample.std() / 20)
    assert found.mean == pytest.approx(sample.mean())
    assert found.patients == 400
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def test_the_interval_of_two_patients_spans_them() -> None:
    """A quarter of the resamples holds the one twice, a quarter the other twice."""
    found = bootstrap_mean([1.0, 3.0])
    assert (found.mean, found.low, found.high, found.patients) == (2.0, 1.0, 3.0, 2)


def test_the_interval_of_a_skewed_sample_is_skewed() -> None:
    found = bootstrap_mean([0.0] * 20 + [10.0])
    assert found.high - found.mean > found.mean - found.low


def test_one_patient_has_no_interval() -> None:
    found = bootstrap_mean([4.0])
    assert (found.mean, found.patients) == (4.0, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_nobody_has_no_mean() -> None:
    found = bootstrap_mean([math.nan, math.nan])
    assert found.patients == 0
    assert math.isnan(found.mean)


def test_patients_without_the_metric_are_left_out() -> None:
    assert bootstrap_mean([1.0, math.nan, 2.0, 4.0]) == bootstrap_mean([1.0, 2.0, 4.0])


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = bootstrap_mean([2.5] * 4)
    assert (found.low, found.high) == (2.5, 2.5)


def test_the_same_seed_gives_the_same_interval_and_another_one_hardly_differs() -> None:
    sample = np.random.default_rng(1).normal(size=30).tolist()
    assert bootstrap_mean(sample) == bootstrap_mean(sample)
    first, second = bootstrap_mean(sample, seed=0), bootstrap_mean(sample, seed=1)
    assert first.low != second.low
    assert first.low == pytest.approx(second.low, abs=0.02)


# -------------------------------------------------------------------------------------------------------------- shares


def test_a_share_has_wilsons_interval() -> None:
    found = proportion([1.0, 1.0, 0.0, math.nan, 1.0])
    z2 = stats.norm.ppf(0.975) ** 2
    centre, reach = (3 + z2 / 2) / (4 + z2), math.sqrt(z2) / (4 + z2) * math.sqrt(3 * 1 / 4 + z2 / 4)
    assert (found.mean, found.patients) == (0.75, 4)
    assert (found.low, found.high) == pytest.approx((centre - reach, centre + reach))


def test_a_share_of_nobody_and_of_numbers() -> None:
    assert proportion([math.nan]).patients == 0
    assert math.isnan(proportion([]).mean)
    with pytest.raises(StatisticsError, match=r"found \[0.5\]"):
        proportion([0.5, 1.0])


# ---------------------------------------------------------------------------------------------------------------- Holm


def test_holm_by_hand() -> None:
    """0.01 · 4, 0.03 · 3, 0.04 · 2 (less than before), 0.5 · 1."""
    adjusted = holm({"d": 0.5, "b": 0.03, "a": 0.01, "c": 0.04})
    assert list(adjusted) == ["d", "b", "a", "c"]
    assert adjusted == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.5})


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        p = {str(i): float(v) for i, v in enumerate(generator.beta(0.3, 3, 6))}
        rejected = set()
        for rank, name in enumerate(sorted(p, key=lambda n: p[n])):
            if p[name] > 0.05 / (6 - rank):
                break
            rejected.add(name)
        assert {name for name, value in holm(p).items() if value <= 0.05} == rejected


def test_holm_of_none_one_and_large_values() -> None:
    assert holm({}) == {}
    assert holm({"a": 0.03}) == {"a": 0.03}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_holm_wants_probabilities(value: float) -> None:
    with pytest.raises(StatisticsError, match="p-value of b"):
        holm({"a": 0.5, "b": value})


# ---------------------------------------------------------------------------------------------------- non-inferiority


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "expected"),
    [
        (-0.01, 0.05, True, True),
        (-0.03, 0.05, True, False),
        (-0.02, 0.05, True, False),  # the margin itself is not excluded
        (-0.05, 0.01, False, True),
        (-0.05, 0.03, False, False),
        (math.nan, math.nan, True, False),
        (math.nan, math.nan, False, False),
    ],
)
def test_no_worse_than_a_margin(low: float, high: float, higher_is_better: bool, expected: bool) -> None:
    assert no_worse(Interval(0.0, low, high, 20), 0.02, higher_is_better) is expected


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan])
def test_a_margin_is_positive(margin: float) -> None:
    with pytest.raises(StatisticsError, match="margin"):
        no_worse(Interval(0.0, 0.0, 0.0, 20), margin, True)


# --------------------------------------------------------------------------------------------------------------- seeds


def run(dice: list[float], mae: list[float], cases: str = "abc") -> pd.DataFrame:
    return pd.DataFrame({"mae": mae, "dice": dice}, index=pd.Index(list(cases), name="case"))


def test_seeds_are_averaged_patient_by_patient() -> None:
    runs = [run([0.2, 0.4, 0.6], [1.0, 2.0, 3.0]), run([0.8, 0.6, math.nan], [5.0, 3.0, math.nan], "cba")]
    found = average_seeds(runs)
    assert found.index.tolist() == ["a", "b", "c"]
    assert found.index.name == "case"
    assert found.columns.tolist() == ["mae", "dice"]
    assert found["dice"].tolist() == pytest.approx([0.2, 0.5, 0.7])
    assert found["mae"].tolist() == pytest.approx([1.0, 2.5, 4.0])


def test_the_deviation_over_seeds_is_that_of_the_means() -> None:
    runs = [run([0.1, 0.2, 0.3], [1.0] * 3), run([0.3, 0.4, 0.5], [1.0] * 3), run([0.2, 0.3, 0.4], [1.0] * 3)]
    assert seed_deviation(runs) == pytest.approx({"dice": 0.1, "mae": 0.0})
    assert math.isnan(seed_deviation(runs[:1])["dice"])


@pytest.mark.parametrize("over_seeds", [average_seeds, seed_deviation])
def test_seeds_of_other_patients_or_metrics_are_refused(over_seeds: Any) -> None:
    one = run([0.1, 0.2, 0.3], [1.0, 1.0, 1.0])
    with pytest.raises(StatisticsError, match=r"different patients: \['c', 'd'\]"):
        over_seeds([one, run([0.1, 0.2, 0.3], [1.0, 1.0, 1.0], "abd")])
    with pytest.raises(StatisticsError, match=r"different metrics: \['mae'\]"):
        over_seeds([one, one[["dice"]]])
