"""The numbers of every table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ctp_ldm.metrics import bootstrap_mean, chains_difference, chains_mean, holm, proportion
from ctp_ldm.report.arms import Arm, read_arms
from ctp_ldm.report.differences import compare_arms, interval, interval_note, primary_tests
from report.tested import write_table

CASES = ["a", "b", "c", "d", "e"]
ONE = {"lesion_ml": [1.0] * 5, "dice": [0.1, 0.2, 0.3, 0.4, 0.5], "dice_real": [0.9] * 5, "detected": [1.0] * 5}
TWO = {**ONE, "dice": [0.3, 0.3, 0.5, 0.5, 0.7]}


@pytest.fixture
def arms(tmp_path: Path) -> list[Arm]:
    for name, columns in (("one", ONE), ("two", TWO)):
        write_table(tmp_path / name, pd.DataFrame(columns, index=CASES))
    return read_arms([tmp_path / "one", tmp_path / "two"])


def test_rows_hold_means_pairs_and_spread(arms: list[Arm]) -> None:
    table = compare_arms(arms, arms[0]).set_index(["metric", "run"])
    row = table.loc[("dice", "two")]
    pairs = stats.ttest_rel(TWO["dice"], ONE["dice"]).confidence_interval()
    assert row["mean"] == pytest.approx(0.46)
    assert [row["difference"], row["difference_low"], row["difference_high"]] == pytest.approx(
        [0.16, pairs.low, pairs.high]
    )
    assert row["spread"] == pytest.approx(np.std(ONE["dice"], ddof=1))
    assert np.isnan(row["seed_deviation"])


def test_what_a_model_cannot_change_is_not_compared(arms: list[Arm]) -> None:
    table = compare_arms(arms, arms[0])
    assert "lesion_ml" not in set(table["metric"])
    assert table.loc[table["metric"] == "dice_real", "difference"].isna().all()
    assert table.loc[table["metric"] == "dice_real", "mean"].tolist() == pytest.approx([0.9, 0.9])


def test_shares_have_wilsons_interval(arms: list[Arm]) -> None:
    row = compare_arms(arms, arms[0]).set_index(["metric", "run"]).loc[("detected", "one")]
    wilson = proportion([1.0] * 5)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((1.0, wilson.low, wilson.high))
    assert row["low"] < 0.7
    assert interval("detected", [0.5, 1.0]) == bootstrap_mean([0.5, 1.0])  # where seeds disagree
    assert interval("dice", [0.0, 1.0]) == bootstrap_mean([0.0, 1.0])


def test_a_column_of_one_arm_only_is_not_compared(arms: list[Arm], tmp_path: Path) -> None:
    write_table(tmp_path / "three", pd.DataFrame({"psnr_dwi": [1.0] * 5}, index=CASES))
    table = compare_arms([*arms, *read_arms([tmp_path / "three"])], arms[0]).set_index(["metric", "run"])
    assert np.isnan(table.loc[("psnr_dwi", "three"), "difference"])
    assert ("dice", "three") not in table.index


def test_primary_tests_are_adjusted_for_each_other(arms: list[Arm]) -> None:
    raw = float(stats.ttest_rel(TWO["dice"], ONE["dice"]).pvalue)
    assert primary_tests(arms, arms[0], ["dice", "absent"]) == pytest.approx({("two", "dice"): raw})
    both = primary_tests(arms, arms[0], ["dice", "detected"])
    adjusted = holm({"dice": raw, "detected": 1.0})
    assert both == pytest.approx({("two", "dice"): adjusted["dice"], ("two", "detected"): adjusted["detected"]})


def test_seeds_are_pairs(tmp_path: Path) -> None:
    for name, columns in (("one", ONE), ("two", TWO)):
        for seed in (1, 2):
            shifted = {**columns, "dice": [v + 0.1 * seed for v in columns["dice"]]}
            write_table(tmp_path / f"{name}-seed{seed}", pd.DataFrame(shifted, index=CASES))
    arms = read_arms([tmp_path / f"{name}-seed{seed}" for name in ("one", "two") for seed in (2, 1)])
    row = compare_arms(arms, arms[0]).set_index(["metric", "run"]).loc[("dice", "two")]
    change = chains_difference(arms[1].chains("dice"), arms[0].chains("dice"))
    mean = chains_mean(arms[1].chains("dice"))
    assert list(arms[1].chains("dice")) == ["-seed2", "-seed1"]
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((change.low, change.high))
    assert (row["low"], row["high"]) == pytest.approx((mean.low, mean.high))
    shares = compare_arms(arms, arms[0]).set_index(["metric", "run"]).loc[("detected", "two")]
    assert shares["low"] == pytest.approx(proportion([1.0] * 5).low), "all seeds agree"


def test_what_intervals_are_over_is_told(arms: list[Arm], tmp_path: Path) -> None:
    assert "patients only: one training each" in interval_note(arms)
    for seed in (1, 2):
        write_table(tmp_path / f"x-seed{seed}", pd.DataFrame(ONE, index=CASES))
    several = read_arms([tmp_path / "x-seed1", tmp_path / "x-seed2"])
    assert "patients and trainings" in interval_note(several)
    assert "Patients only" not in interval_note(several)
    assert interval_note([*several, arms[0]]).endswith("Patients only, one training: one.")
