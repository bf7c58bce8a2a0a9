"""Means over patients with their intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from ctp_ldm.metrics import bootstrap_mean


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
