"""What is left when something is missing, and what is said of it."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from ctp_ldm.report.rows import difference_note, difference_rows
from ctp_ldm.report.runs import ComparisonError
from ctp_ldm.report.study import Study, read_study
from report.tested import PATIENTS, make_run, write_table


def notices(*folders: Path) -> str:
    return "\n".join(read_study(folders).notices)


def test_whole_runs_need_no_notice(tmp_path: Path) -> None:
    study = read_study([make_run(tmp_path / "one"), make_run(tmp_path / "two", seed=1)])
    assert study.notices == []
    assert (study.reference.name, [arm.name for arm in study.others]) == ("one", ["two"])
    assert study.targets == ["dwi", "adc"]
    assert study.units == {"dwi": "relative DWI", "adc": "10⁻⁶ mm²/s"}
    assert study.metrics[:2] == ["lesion_dice", "false_ml"]
    assert set(study.tests) == {("two", "lesion_dice"), ("two", "false_ml")}


def test_an_unfinished_run_is_left_out_and_told(tmp_path: Path) -> None:
    good = [make_run(tmp_path / "two"), make_run(tmp_path / "three", seed=1)]
    study = read_study([tmp_path / "one", *good])
    assert [arm.name for arm in study.arms] == ["two", "three"]
    assert "one/test/patients.csv is missing: run ctp-ldm test" in study.notices[0]
    assert "compared with two" in study.notices[1]


def test_with_no_run_left_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match=r"(?s)none of the runs.*one/test.*missing.*two/test.*missing"):
        read_study([tmp_path / "one", tmp_path / "two"])


def test_one_patient_only(tmp_path: Path) -> None:
    assert "one patient only" in notices(make_run(tmp_path / "one", {"sub-1": 5}))


def test_a_split_without_lesions(tmp_path: Path) -> None:
    assert "No patient has a lesion" in notices(make_run(tmp_path / "one", {"a": 0, "b": 0}))


def test_a_run_without_segmenter_is_told_how_to_get_one(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "one"), make_run(tmp_path / "two", segmenter=False)]
    (notice,) = read_study(folders).notices
    assert notice.startswith("two: Dice and false lesion volume need a segmenter that took no part in training")
    assert "--segmenter" in notice


def test_a_metric_that_one_run_lacks_is_named(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "one"), make_run(tmp_path / "two")]
    path = folders[1] / "test" / "patients.csv"
    path.write_text(path.read_text().replace("hd95_mm", "hd96_mm"))
    assert "two was not measured by hd95_mm, as others were" in notices(*folders)


def test_several_samples_are_no_fault(tmp_path: Path) -> None:
    assert notices(make_run(tmp_path / "one"), make_run(tmp_path / "two", samples=3)) == ""


def test_unknown_scalings_are_told_where_runs_are_compared(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "one"), make_run(tmp_path / "two")]
    path = folders[1] / "test" / "summary.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "spec"}))
    assert "two does not tell its scalings and units" in notices(*folders)
    assert notices(folders[1]) == ""


def test_volumes_of_lesions_are_those_of_the_reference(tmp_path: Path) -> None:
    study = read_study([make_run(tmp_path / "one", segmenter=False)])
    assert study.volumes_ml.to_dict() == pytest.approx({case: side**2 * 3 * 0.18 for case, side in PATIENTS.items()})


def compared(folder: Path, ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> Study:
    for name, columns in (("theirs", theirs), ("ours", ours)):
        cases = [f"c{i}" for i in range(len(columns["lesion_dice"]))]
        write_table(folder / name, pd.DataFrame(columns, index=cases))
    return read_study([folder / "theirs", folder / "ours"])


def test_labels_follow_interval_and_adjusted_p(tmp_path: Path) -> None:
    """Of two primary metrics one has p a little below 0.05, which Holm doubles."""
    zeros = [0.0] * 5
    up = [0.1, 0.2, 0.3, 0.05, 0.1]
    ours_columns = {"lesion_dice": up, "false_ml": zeros, "detected": zeros, "psnr_dwi": up}
    study = compared(tmp_path, ours_columns, dict.fromkeys(ours_columns, zeros))
    (ours,) = study.others
    change = study.difference("lesion_dice", ours)
    assert change is not None
    assert change.low > 0
    p = stats.ttest_1samp(up, 0).pvalue
    assert 0.025 < p < 0.05
    assert study.tests["ours", "lesion_dice"] == pytest.approx(2 * p)
    assert study.verdict("lesion_dice", ours) == ""
    assert study.verdict("psnr_dwi", ours) == "better", "without a test the interval decides"
    assert study.verdict("detected", ours) == ""


@pytest.mark.parametrize(("shift", "expected"), [(0.1, "better"), (-0.1, "worse"), (0.0, "")])
def test_a_primary_metric_with_a_small_p_is_labelled(tmp_path: Path, shift: float, expected: str) -> None:
    base = [0.3, 0.5, 0.4, 0.6, 0.2, 0.7, 0.35, 0.45]
    wobble = [0.02, -0.02] * 4
    study = compared(
        tmp_path, {"lesion_dice": [b + w + shift for b, w in zip(base, wobble, strict=True)]}, {"lesion_dice": base}
    )
    assert study.verdict("lesion_dice", study.others[0]) == expected


FALSE = [5.0, 6.0, 4.0, 7.0, 5.5, 6.5, 4.5, 5.0]
FOUND = [0.6, 0.5, 0.7, 0.6, 0.65, 0.55, 0.6, 0.7]
NOBODY = [math.nan] * 8


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (FOUND, FOUND, "better"),
        ([v - 0.3 for v in FOUND], FOUND, "finds less"),
        ([0.0] * 8, FOUND, "finds less"),
        (NOBODY, NOBODY, ""),
    ],
)
def test_less_false_lesion_is_better_where_no_less_is_found(
    tmp_path: Path, ours: list[float], theirs: list[float], expected: str
) -> None:
    study = compared(
        tmp_path,
        {"lesion_dice": NOBODY, "sensitivity": ours, "false_ml": [v - 3 for v in FALSE]},
        {"lesion_dice": NOBODY, "sensitivity": theirs, "false_ml": FALSE},
    )
    assert study.verdict("false_ml", study.others[0]) == expected
    (cell,) = next(row for row in difference_rows(study) if row.title == "False lesion volume").cells
    assert cell is not None
    assert cell.verdict == expected


def test_tables_without_sensitivity_are_judged_beside_dice(tmp_path: Path) -> None:
    study = compared(
        tmp_path, {"lesion_dice": [0.0] * 8, "false_ml": [0.0] * 8}, {"lesion_dice": FOUND, "false_ml": FALSE}
    )
    assert study.verdict("false_ml", study.others[0]) == "finds less"


def test_a_difference_of_a_part_of_the_patients_says_so_and_is_not_judged(tmp_path: Path) -> None:
    """As tables of before have them, where a distance was not defined for a patient in whom nothing was found."""
    far = [20.0, 21.0, 19.0, 22.0, 20.5, 21.5, 19.5, 20.0]
    ours = [math.nan, math.nan, *(v - 10 for v in far[2:])]
    same = {"lesion_dice": FOUND}
    study = compared(tmp_path, {**same, "hd95_mm": ours}, {**same, "hd95_mm": far})
    (arm,) = study.others
    change = study.difference("hd95_mm", arm)
    assert change is not None
    assert (change.patients, study.left_out("hd95_mm", arm)) == (6, 2)
    assert change.high < 0
    assert study.verdict("hd95_mm", arm) == ""
    (cell,) = next(row for row in difference_rows(study) if row.title == "Hausdorff distance, 95 %").cells
    assert cell is not None
    assert cell.note == "; n = 6, 2 left out"


def test_the_note_names_the_comparisons_of_holms_adjustment(tmp_path: Path) -> None:
    study = compared(tmp_path, {"lesion_dice": [0.1, 0.2, 0.3]}, {"lesion_dice": [0.1, 0.1, 0.1]})
    assert "over 1 comparisons: Dice in patients with lesion of ours against theirs" in difference_note(study)
