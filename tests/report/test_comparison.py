"""Runs side by side, from tables made by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ctp_ldm.report import compare_runs
from ctp_ldm.report.comparison import ComparisonError

CASES = ["007", "a", "b", "c"]
REFERENCE = {
    "lesion_ml": [1.0, 2.0, 0.0, 4.0],
    "brain_mae_dwi": [10.0, 20.0, 30.0, 40.0],
    "psnr_dwi": [30.0, 31.0, 32.0, 33.0],
    "lesion_mae_dwi": [1.0, 2.0, np.nan, 3.0],
}
CHANGES = {"brain_mae_dwi": [-1.0, -2.0, -1.0, -2.0], "psnr_dwi": [1.0, 1.0, 2.0, 0.0], "lesion_mae_dwi": [-0.5] * 4}


def write_run(folder: Path, table: dict[str, list[float]], cases: list[str] = CASES) -> Path:
    (folder / "test").mkdir(parents=True)
    pd.DataFrame(table, index=pd.Index(cases, name="case")).to_csv(folder / "test" / "patients.csv")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    changed = {name: list(np.add(values, CHANGES.get(name, 0.0))) for name, values in REFERENCE.items()}
    return [write_run(tmp_path / "control", REFERENCE), write_run(tmp_path / "posttrain", changed)]


def cell(result: pd.DataFrame, metric: str, run: str) -> pd.Series:
    (row,) = (r for _, r in result.iterrows() if (r["metric"], r["run"]) == (metric, run))
    return row


def test_means_are_over_patients(runs: list[Path], tmp_path: Path) -> None:
    result = compare_runs(runs, tmp_path / "out")
    assert cell(result, "brain_mae_dwi", "control")["mean"] == pytest.approx(25)
    assert cell(result, "brain_mae_dwi", "posttrain")["mean"] == pytest.approx(23.5)
    assert cell(result, "lesion_mae_dwi", "control")["mean"] == pytest.approx(2)
    assert cell(result, "lesion_mae_dwi", "control")["patients"] == 3


def test_differences_are_paired_by_patient(runs: list[Path], tmp_path: Path) -> None:
    """Patients differ by 30, the runs by 1 to 2 in every patient: only pairing shows it."""
    result = compare_runs(runs, tmp_path / "out")
    better = cell(result, "brain_mae_dwi", "posttrain")
    assert better["difference"] == pytest.approx(-1.5)
    interval = stats.ttest_1samp(CHANGES["brain_mae_dwi"], 0).confidence_interval()
    assert [better["difference_low"], better["difference_high"]] == pytest.approx(list(interval))
    higher = cell(result, "psnr_dwi", "posttrain")
    assert higher["difference"] == pytest.approx(1)
    assert higher["difference_high"] - higher["difference_low"] < 3
    constant = cell(result, "lesion_mae_dwi", "posttrain")
    assert [constant[f"difference{end}"] for end in ("", "_low", "_high")] == pytest.approx([-0.5] * 3)


def test_the_reference_does_not_differ_from_itself(runs: list[Path], tmp_path: Path) -> None:
    own = cell(compare_runs(runs, tmp_path / "out"), "psnr_dwi", "control")
    assert [own[f"difference{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]


def test_patients_are_paired_by_name_not_by_row(runs: list[Path], tmp_path: Path) -> None:
    expected = compare_runs(runs, tmp_path / "out")
    path = runs[1] / "test" / "patients.csv"
    pd.read_csv(path, index_col="case", dtype={"case": str}).iloc[::-1].to_csv(path)
    pd.testing.assert_frame_equal(compare_runs(runs, tmp_path / "out"), expected)


def test_the_tables_are_written(runs: list[Path], tmp_path: Path) -> None:
    result = compare_runs(runs, tmp_path / "out")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "comparison.csv"), result, rtol=1e-4)
    lines = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    assert "| metric | n | control | posttrain | posttrain − control |" in lines
    (line,) = (line for line in lines if line.startswith("| MAE in the brain, DWI, relative | 4 | 25.000 ["))
    assert "| −1.500 [−2.419, −0.581] |" in line


def test_what_models_are_judged_by_comes_first_and_alone_on_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {"ssim_dwi": [0.5] * 4, "brain_mae_dwi": [1.0] * 4, "dice": [0.1] * 4, "false_ml": [1.0] * 4}
    table |= {"lesion_dice": [0.4, 0.5, np.nan, 0.6], "detected_10ml": [1.0, np.nan, np.nan, 0.0]}
    runs = [write_run(tmp_path / name, table) for name in ("one", "two")]
    result = compare_runs(runs, tmp_path / "out")
    first = ["detected_10ml", "lesion_dice", "false_ml", "brain_mae_dwi"]
    assert list(dict.fromkeys(result["metric"])) == [*first, "ssim_dwi", "dice"]
    shown = capsys.readouterr().out
    assert "Detected, lesions of at least 10 mL" in shown
    assert "SSIM" not in shown


def test_a_blank_arm_is_said_to_find_less_and_who_is_left_out_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, free = [0.5, 0.6, 0.4, 0.7], [3.0, 4.0, 2.0, 5.0]
    old = {"hd95_mm": [20.0, 22.0, 25.0, 24.0]}
    blank = {"sensitivity": [0.0] * 4, "false_ml": [0.0] * 4, "hd95_mm": [np.nan, 10.0, 12.0, 11.0]}
    careful = {"sensitivity": found, "false_ml": [1.0, 1.5, 0.5, 1.0], **old}
    runs = [
        write_run(tmp_path / name, {"lesion_ml": [1.0] * 4, **table})
        for name, table in (("painted", {"sensitivity": found, "false_ml": free, **old}), ("blank", blank),
                            ("careful", careful))
    ]  # fmt: skip
    result = compare_runs(runs, tmp_path / "out")
    assert cell(result, "false_ml", "blank")["finds"] == "less"
    assert cell(result, "false_ml", "careful")["finds"] == "no less"
    assert (cell(result, "hd95_mm", "blank")["pairs"], cell(result, "hd95_mm", "blank")["left_out"]) == (3, 1)
    lines = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    false, distance = (next(x for x in lines if x.startswith(f"| {t}")) for t in ("False lesion", "Hausdorff"))
    assert false.count("finds less") == 1
    assert "−3.50 [−5.55, −1.45]; finds less | −2.50 [" in false
    assert "; n = 3, 1 left out |" in distance
    assert "finds less" not in distance
    assert "; finds less" in capsys.readouterr().out


def test_runs_of_the_same_name_are_told_apart_by_their_paths(runs: list[Path], tmp_path: Path) -> None:
    twin = write_run(tmp_path / "seed1" / "control", REFERENCE)
    result = compare_runs([runs[0], twin], tmp_path / "out")
    assert list(result["run"].unique()) == [str(runs[0]), str(twin)]


def test_runs_on_different_patients_are_refused_naming_them(runs: list[Path], tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", REFERENCE, ["007", "a", "b", "z"])
    with pytest.raises(ComparisonError, match=r"control and other .* different patients, such as \['c', 'z'\]"):
        compare_runs([*runs, other], tmp_path / "out")


def test_a_metric_that_a_run_lacks_is_told_and_left_open(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = write_run(tmp_path / "fewer", {k: v for k, v in REFERENCE.items() if k != "psnr_dwi"})
    compare_runs([*runs, fewer], tmp_path / "out")
    assert "control and fewer do not both have psnr_dwi" in capsys.readouterr().out
    (line,) = (row for row in (tmp_path / "out" / "comparison.md").read_text().splitlines() if "PSNR, DWI" in row)
    assert line.count("–") == 2


def test_runs_without_a_common_metric_are_refused(runs: list[Path], tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", {"lesion_ml": REFERENCE["lesion_ml"], "of_my_own": [1.0] * 4})
    with pytest.raises(ComparisonError, match="control and other have no metric in common"):
        compare_runs([*runs, other], tmp_path / "out")


def test_a_run_that_was_not_tested_is_refused_with_the_remedy(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match=r"patients\.csv is missing: run ctp-ldm test"):
        compare_runs([runs[0], tmp_path / "untested"], tmp_path / "out")


def test_one_run_is_nothing_to_compare(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="at least two different run folders"):
        compare_runs(runs[:1], tmp_path / "out")
