"""Intervals over patients and trainings: closed forms, and how often they hold a truth that is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ctp_ldm.metrics import StatisticsError, bootstrap_mean, chains_difference, chains_mean


def table(values: object, seeds: str = "12345") -> pd.DataFrame:
    array = np.array(values, float)
    return pd.DataFrame(array, index=[f"p{i:03d}" for i in range(len(array))], columns=list(seeds)[: array.shape[1]])


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_the_mean_of_one_chain_is_the_bootstrap_over_patients_to_the_bit() -> None:
    values = table(noise((30, 1)))
    assert chains_mean(values) == bootstrap_mean(values["1"].tolist())


def test_the_difference_of_one_chain_each_is_the_paired_t_test() -> None:
    ours, theirs = noise((30, 1)) + 0.3, noise((30, 1), 1)
    found, expected = chains_difference(table(ours), table(theirs, "7")), stats.ttest_rel(ours[:, 0], theirs[:, 0])
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.p == pytest.approx(expected.pvalue)


def test_patients_without_variation_leave_the_t_interval_over_chains() -> None:
    found = chains_mean(table([[1.0, 2.0, 6.0]] * 5))
    expected = stats.ttest_1samp([1.0, 2.0, 6.0], 0).confidence_interval()
    assert (found.mean, found.low, found.high, found.patients) == pytest.approx((3.0, *expected, 5))


def test_chains_without_variation_leave_the_t_interval_over_patients() -> None:
    values = noise((40, 1))
    found, expected = chains_mean(table(values.repeat(3, axis=1))), stats.ttest_1samp(values[:, 0], 0)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_the_variance_and_its_freedom_are_those_of_the_analysis_of_variance() -> None:
    """Two patients and two chains by hand: MS 4, 1 and 0.25 of patients, chains and residual, 1 degree each."""
    values = table(5 + np.array([[1.0, 1.0], [-1.0, -1.0]]) + [[0.5, -0.5]] * 2 + np.array([[1, -1], [-1, 1]]) / 4)
    variance = (4 + 1 - 0.25) / 4
    freedom = (4 + 1 - 0.25) ** 2 / (4**2 + 1**2 + 0.25**2)
    found = chains_mean(values)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(variance))
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_chains_of_the_same_seeds_are_pairs_in_whatever_order() -> None:
    theirs = table([[1.0, 2.0, 6.0]] * 5)
    ours = theirs[["3", "1", "2"]] + 1.0
    paired = chains_difference(ours, theirs)
    assert (paired.low, paired.high, paired.p) == (1.0, 1.0, 0.0)
    alone = chains_difference(ours.set_axis(list("456"), axis=1), theirs)
    welch = stats.ttest_ind([2.0, 3.0, 7.0], [1.0, 2.0, 6.0], equal_var=False)
    assert alone.mean == pytest.approx(1.0)
    assert (alone.low, alone.high) == pytest.approx(tuple(welch.confidence_interval()))
    assert alone.p == pytest.approx(welch.pvalue)


def test_a_side_with_one_chain_adds_no_variance_of_chains() -> None:
    found = chains_difference(table([[1.0, 2.0, 6.0]] * 5), table([[0.0]] * 5, "9"))
    expected = stats.ttest_1samp([1.0, 2.0, 6.0], 0)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.p == pytest.approx(expected.pvalue)


def test_a_difference_that_rests_on_one_lucky_chain_is_not_certain() -> None:
    theirs = noise((60, 3))
    ours = theirs + np.array([0.6, 0.0, 0.0]) + 0.05 * noise((60, 3), 1)
    over_patients = stats.ttest_rel(ours.mean(axis=1), theirs.mean(axis=1))
    both = chains_difference(table(ours), table(theirs))
    assert over_patients.confidence_interval().low > 0.15
    assert both.low < 0
    assert both.p > 0.05


def test_an_interval_excludes_zero_where_p_is_below_one_in_twenty_and_only_there() -> None:
    excluded = 0
    for seed in range(60):
        found = chains_difference(table(noise((20, 3), seed) + 0.25), table(noise((20, 3), seed + 100), "123"))
        assert (found.low > 0 or found.high < 0) == (found.p < 0.05)
        excluded += found.p < 0.05
    assert 5 < excluded < 55


def test_undefined_values_are_left_out_chain_by_chain() -> None:
    found = chains_mean(table([[1.0, np.nan, 3.0], [4.0, 4.0, 4.0], [np.nan] * 3]))
    assert (found.mean, found.patients) == (3.0, 2)
    assert found.low < 2.0
    empty = table(np.column_stack([noise((9, 2)), np.full(9, np.nan)]))
    assert chains_mean(empty) == chains_mean(empty[["1", "2"]]), "a chain in which nothing is defined"
    assert np.isnan(chains_mean(table([[1.0, 2.0, 3.0]])).low), "one patient has no interval"
    assert chains_mean(table([[np.nan] * 3] * 2)).patients == 0
    assert np.isnan(chains_difference(table([[np.nan]] * 2), table([[1.0]] * 2)).p)


def test_few_missing_values_change_little() -> None:
    values = noise((80, 3)) + np.array([0.0, 0.4, 0.9])
    holes = np.where(np.random.default_rng(1).random(values.shape) < 0.03, np.nan, values)
    whole, found = chains_mean(table(values)), chains_mean(table(holes))
    assert found.high - found.low == pytest.approx(whole.high - whole.low, rel=0.1)


def test_other_patients_are_refused() -> None:
    with pytest.raises(StatisticsError, match=r"different patients: \['p001'\]"):
        chains_difference(table([[1.0, 2.0]] * 2), table([[1.0, 2.0]]))


@pytest.mark.parametrize(
    ("paired", "of_chains", "skewed"),
    [(True, 1.0, False), (True, 0.2, True), (True, 0.0, False), (False, 1.0, True), (False, 0.2, False)],
)
def test_of_three_chains_nine_in_ten_intervals_hold_the_truth_and_more(
    paired: bool, of_chains: float, skewed: bool
) -> None:
    """A difference of 0 over 40 patients; three standard errors of 300 trials are 4 %."""
    random = np.random.default_rng(0)

    def side() -> np.ndarray:
        return of_chains * random.normal(size=(1, 3)) + random.normal(size=(40, 3))

    held = 0
    for _ in range(300):
        patients = random.exponential(size=(40, 1)) - 1 if skewed else random.normal(size=(40, 1))
        found = chains_difference(table(patients + side()), table(side(), "123" if paired else "789"))
        held += found.low <= 0 <= found.high
    assert held / 300 >= 0.9
