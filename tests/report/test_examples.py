"""Which patients stand for all, from volumes made by hand."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from ctp_ldm.metrics import PatientVolumes, evaluate_patient
from ctp_ldm.report.arms import Arm
from ctp_ldm.report.examples import choose_examples
from ctp_ldm.report.runs import TestedRun
from ctp_ldm.report.study import Study

SHAPE = (10, 10, 10)


def row(lesion: int, found: int = 0, outside: int = 0, segmenter: bool = True) -> dict[str, float]:
    """Metrics of a patient with so many mL of lesion, found in it, and found outside it; the image is 0.1 off there."""
    masks = np.zeros((2, 1000), bool)
    masks[0, :lesion] = masks[1, :found] = masks[1, 500 : 500 + outside] = True
    reference, seen = masks.reshape(2, *SHAPE)
    real = np.ones((10, 1, 10, 10), np.float32)
    volumes = PatientVolumes(
        case="",
        spacing=(10.0, 10.0, 10.0),
        targets=("dwi",),
        units=("relative DWI",),
        synthetic=real + 0.001 * lesion,
        real=real,
        brain=np.ones(SHAPE, bool),
        lesion=reference,
        found=seen if segmenter else None,
    )
    return {"lesion_ml": float(lesion), **evaluate_patient(volumes, [4.0])}


def study(*arms: Mapping[str, dict[str, float]]) -> Study:
    tables = [pd.DataFrame.from_dict(rows, orient="index").sort_index() for rows in arms]
    made = [Arm(f"run{i}", (TestedRun(None, table, {}),)) for i, table in enumerate(tables)]  # type: ignore[arg-type]
    return Study(made, made[0])


LESIONS = {
    "b-small": row(9, 9),
    "c-large": row(50, 25),
    "d-median": row(30, 6),  # 20 % is found
    "e-larger": row(40, 40),
    "f-smaller": row(20, 20),
    "g-missed": row(70, 13),  # 19 % is not
    "h-missed": row(60, 0, 200),
}
FREE = {"x": row(0, 0, 3), "y": row(0, 0, 1), "z": row(0, 0, 2), "w": row(0, 0, 9)}


def test_a_median_find_the_largest_miss_and_a_median_false_alarm() -> None:
    """Of 20, 30, 40 and 50 mL and of 1, 2, 3 and 9 mL the lower median."""
    chosen = choose_examples(study({**LESIONS, **FREE}))
    assert chosen.cases == {"found": "d-median", "missed": "g-missed", "lesion-free": "z"}
    assert "found on images of run0" in chosen.rule
    assert "at least 10 mL of which at least 20 % of the volume was found" in chosen.rule


def test_the_last_run_judges() -> None:
    blind = {case: row(int(r["reference_ml"])) for case, r in LESIONS.items()}
    assert choose_examples(study(blind, LESIONS)).cases["found"] == "d-median"
    judged_last = choose_examples(study(LESIONS, blind))
    assert judged_last.cases == {"missed": "g-missed"}
    assert "Found: no lesion of which at least 20 % of the volume was found. " in judged_last.rule


def test_small_lesions_stand_in_and_empty_classes_are_said() -> None:
    chosen = choose_examples(study({"a": row(3, 3), "b": row(5, 5), "c": row(4, 4)}))
    assert chosen.cases == {"found": "c"}
    for said in ("no lesion of at least 10 mL was", "Missed: no lesion was.", "Lesion-free: no patient is."):
        assert said in chosen.rule


def test_without_a_segmenter_errors_in_the_lesion_choose() -> None:
    cases = {f"c{lesion}": row(lesion, segmenter=False) for lesion in (10, 20, 30, 40, 0)}
    chosen = choose_examples(study(cases))
    assert chosen.cases == {"smallest error": "c10", "median error": "c20", "lesion-free": "c0"}
    assert chosen.rule.startswith("No segmenter looked for lesions: ")


@pytest.mark.parametrize(("count", "kinds"), [(3, {"worst": "c2", "median": "c1", "best": "c0"}), (1, {"worst": "c0"})])
def test_where_there_are_no_lesions_the_worst_median_and_best_are_shown(count: int, kinds: dict[str, str]) -> None:
    cases = {f"c{i}": {"brain_mae_dwi": float(i), "psnr_dwi": 30.0} for i in range(count)}
    chosen = choose_examples(study(cases))
    assert chosen.cases == kinds
    assert chosen.rule.startswith("No patient has a lesion: ")
