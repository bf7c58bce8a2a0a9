"""Intervals over patients and trainings: closed forms, and how often they hold a truth that is known."""

import numpy as np
import pandas as pd
import pytest

from ctp_ldm.metrics import StatisticsError, bootstrap_mean, chains, chains_difference, chains_mean, paired_difference


def table(values: object, seeds: str = "123") -> pd.DataFrame:
    array = np.array(values, float)
    return pd.DataFrame(array, index=[f"p{i:03d}" for i in range(len(array))], columns=list(seeds)[: array.shape[1]])


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_one_chain_is_the_bootstrap_over_patients_to_the_bit() -> None:
    ours, theirs = table(noise((30, 1))), table(noise((30, 1), 1), "7")
    assert chains_mean(ours) == bootstrap_mean(ours["1"].tolist())
    assert chains_difference(ours, theirs) == paired_difference(ours["1"].to_dict(), theirs["7"].to_dict())


def test_patients_without_variation_leave_the_draws_of_chains() -> None:
    """Of 27 draws of three chains the least and the greatest are each one chain thrice: 3.7 %, more than 2.5 %."""
    found = chains_mean(table([[1.0, 2.0, 6.0]] * 5))
    assert (found.mean, found.low, found.high, found.patients) == pytest.approx((3.0, 1.0, 6.0, 5))


def test_chains_without_variation_leave_the_bootstrap_over_patients() -> None:
    values = noise((40, 1))
    found, expected = chains_mean(table(values.repeat(3, axis=1))), bootstrap_mean(values[:, 0].tolist())
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high), abs=0.02)


def test_chains_of_the_same_seeds_are_drawn_as_pairs_in_whatever_order() -> None:
    theirs = table([[1.0, 2.0, 6.0]] * 5)
    ours = theirs[["3", "1", "2"]] + 1.0
    paired = chains_difference(ours, theirs)
    assert (paired.low, paired.high) == pytest.approx((1.0, 1.0))
    alone = chains_difference(ours.set_axis(list("456"), axis=1), theirs)
    assert alone.mean == pytest.approx(1.0)
    assert alone.low < -1.0
    assert alone.high > 3.0


def test_a_difference_that_rests_on_one_lucky_chain_is_not_certain() -> None:
    theirs = table(noise((60, 3)))
    ours = theirs + np.array([0.6, 0.0, 0.0]) + 0.05 * noise((60, 3), 1)
    over_patients = paired_difference(ours.mean(axis=1).to_dict(), theirs.mean(axis=1).to_dict())
    both = chains_difference(ours, theirs)
    assert both.mean == pytest.approx(over_patients.mean)
    assert over_patients.low > 0.15
    assert both.low < 0.05


def test_undefined_values_are_left_out_chain_by_chain() -> None:
    found = chains_mean(table([[1.0, np.nan, 3.0], [4.0, 4.0, 4.0], [np.nan] * 3]))
    assert (found.mean, found.patients) == (3.0, 2)
    assert (found.low, found.high) == pytest.approx((1.0, 4.0))
    assert np.isnan(chains_mean(table([[1.0, 2.0, 3.0]])).low), "one patient has no interval"
    assert chains_mean(table([[np.nan] * 3] * 2)).patients == 0


def test_other_patients_are_refused() -> None:
    with pytest.raises(StatisticsError, match=r"different patients: \['p001'\]"):
        chains_difference(table([[1.0, 2.0]] * 2), table([[1.0, 2.0]]))


def test_two_levels_hold_the_truth_more_often_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference of 0 whose chains vary by 0.3, patients by 1, and both together by 1; 40 patients, three chains."""
    monkeypatch.setattr(chains, "RESAMPLES", 400)
    random = np.random.default_rng(0)
    one = two = 0
    for _ in range(150):
        patients, trainings = random.normal(size=(40, 1)), random.normal(0, 0.3, (1, 3))
        ours = table(patients + trainings + random.normal(size=(40, 3)))
        found = chains_difference(ours, ours * 0.0)
        means = ours.mean(axis=1)
        reach = 1.96 * means.std() / np.sqrt(40)  # what the bootstrap over patients comes to
        one += abs(means.mean()) <= reach
        two += found.low <= 0 <= found.high
    assert one / 150 < 0.86
    assert two / 150 > 0.88
    assert two - one >= 10
