"""When a difference counts: a blank image has no false lesion, and is not better for it."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from ctp_ldm.metrics import (
    FINDS_LESS,
    METRICS,
    Interval,
    PatientVolumes,
    chains_difference,
    describe,
    evaluate_patient,
    finds,
    judgement,
)
from metrics.brains import FAULTS, LESION, SPANS, real_image, volumes

PATIENTS = 6
Arms = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def arms() -> Arms:
    """Fault → table of patients; every third has no lesion, where a painted image shows one all the same."""
    found: dict[str, dict[str, dict[str, float]]] = {fault: {} for fault in FAULTS}
    for seed in range(PATIENTS):
        lesion = LESION if seed % 3 else np.zeros_like(LESION)
        real = real_image(seed, lesion)
        for fault, change in FAULTS.items():
            found[fault][f"sub-{seed}"] = evaluate_patient(patient(change, real, lesion), SPANS)
    return {fault: pd.DataFrame.from_dict(rows, orient="index") for fault, rows in found.items()}


def patient(change: Callable[[np.ndarray], np.ndarray], real: np.ndarray, lesion: np.ndarray) -> PatientVolumes:
    return volumes(change(real), lesion=lesion)


def judged(arms: Arms, ours: str, theirs: str, column: str) -> str:
    change = chains_difference(arms[ours][[column]], arms[theirs][[column]])
    dice = chains_difference(arms[ours][["lesion_dice"]], arms[theirs][["lesion_dice"]])
    found = finds(arms[ours][["sensitivity"]], arms[theirs][["sensitivity"]], dice)
    return judgement(describe(column), change, found)


def test_a_blank_image_is_better_than_no_other_in_anything_that_is_found(arms: Arms) -> None:
    columns = [c for c in arms["blank"] if describe(c).better and describe(c).channel is None]
    for other in set(FAULTS) - {"blank"}:
        assert "better" not in {judged(arms, "blank", other, column) for column in columns}, other
    assert judged(arms, "blank", "painted", "false_ml") == FINDS_LESS
    assert judged(arms, "erased", "painted", "false_near_ml") == FINDS_LESS
    assert judged(arms, "erased", "painted", "false_free_ml") == FINDS_LESS, "what is lost elsewhere is lost"


def test_less_false_lesion_counts_where_the_lesions_are_found_all_the_same(arms: Arms) -> None:
    for column in ("false_ml", "false_near_ml", "false_free_ml", "any_false_free", "precision", "hd95_mm"):
        assert judged(arms, "perfect", "painted", column) == "better", column
        assert judged(arms, "painted", "perfect", column) == "worse", column
    assert judged(arms, "perfect", "blank", "sensitivity") == "better"
    assert judged(arms, "perfect", "blank", "false_ml") == "", "neither has any"


def test_columns_that_finding_less_can_win_are_judged_beside_what_is_found(arms: Arms) -> None:
    """All that a blank image, or one with a single right voxel, can be best in."""
    won = {c for c in METRICS if c.startswith(("false_", "any_false", "crosses_")) and METRICS[c].better}
    assert {c for c, metric in METRICS.items() if metric.beside_found} == won | {
        *("precision", "hd95_mm", "absolute_volume_error_ml", "lesion_count_difference")
    }


def test_no_column_leaves_out_the_patients_in_whom_nothing_is_found(arms: Arms) -> None:
    columns = [c for c in arms["perfect"] if describe(c).channel is None and not c.startswith("dwi_ratio")]
    for fault, table in arms.items():
        pd.testing.assert_frame_equal(table[columns].isna(), arms["perfect"][columns].isna(), obj=fault)


def chains(values: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"": values}, index=[f"c{i}" for i in range(len(values))])


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([0.5, 0.6, 0.7], [0.6, 0.7, 0.8], "less"),
        ([0.6, 0.5, 0.7], [0.5, 0.6, 0.7], "no less"),
        ([0.7, 0.8, 0.9], [0.6, 0.7, 0.8], "no less"),
        ([0.0, 0.0, 0.0], [0.3, 0.0, 0.0], "less"),  # nothing at all, although the interval reaches 0
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "less"),
        ([math.nan, math.nan, 0.4], [math.nan, math.nan, 0.5], "less"),  # a single lesion, which has no interval
        ([math.nan, math.nan, 0.5], [math.nan, math.nan, 0.5], "no less"),
        ([math.nan] * 3, [math.nan] * 3, "unknown"),
    ],
)
def test_what_is_less(ours: list[float], theirs: list[float], expected: str) -> None:
    assert finds(chains(ours), chains(theirs)) == expected


def test_who_paints_everything_finds_most_and_is_no_measure() -> None:
    """Less is found, and what is found agrees better: that is a gain; of who finds nothing it never is."""
    higher, open_ = Interval(0.2, 0.1, 0.3, 3), Interval(0.1, -0.1, 0.3, 3)
    all_, most, none = chains([1.0, 1.0, 1.0]), chains([0.9, 0.88, 0.9]), chains([0.0, 0.0, 0.0])
    assert finds(most, all_, higher) == "less, with higher Dice"
    assert finds(most, all_, open_) == finds(none, all_, higher) == "less"
    assert finds(all_, most, higher) == "no less"
    gain = Interval(-3.0, -4.0, -2.0, 3)
    assert judgement(describe("false_ml"), gain, "less, with higher Dice") == "better"


@pytest.mark.parametrize(
    ("column", "ends", "found", "left_out", "expected"),
    [
        ("false_ml", (-3.0, -1.0), "no less", 0, "better"),
        ("false_ml", (-3.0, -1.0), "less", 0, FINDS_LESS),
        ("false_ml", (-3.0, -1.0), "unknown", 0, ""),
        ("false_ml", (1.0, 3.0), "less", 0, "worse"),
        ("false_ml", (-3.0, 1.0), "less", 0, ""),
        ("false_ml", (-3.0, -1.0), "no less", 1, ""),
        ("precision", (0.1, 0.2), "less", 0, FINDS_LESS),
        ("lesion_dice", (0.1, 0.2), "less", 0, "better"),
        ("brain_mae_dwi", (-0.2, -0.1), "less", 0, "better"),
        ("volume_error_ml", (-3.0, -1.0), "no less", 0, ""),
        ("lesion_dice", (math.nan, math.nan), "no less", 0, ""),
    ],
)
def test_what_is_better(column: str, ends: tuple[float, float], found: str, left_out: int, expected: str) -> None:
    change = Interval(sum(ends) / 2, *ends, 5)
    assert judgement(describe(column), change, found, left_out) == expected  # type: ignore[arg-type]
