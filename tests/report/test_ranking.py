"""Who is worst and best, and of whom images are shown."""

from pathlib import Path

import pandas as pd
import pytest

from ctp_ldm.report.ranking import Ranking, choose_cases, rank
from ctp_ldm.report.study import read_study
from report.tested import write_table

NAN = float("nan")
CASES = [f"c{i}" for i in range(9)]


def ranking(folder: Path, *tables: dict[str, list[float]]) -> Ranking:
    folders = []
    for i, columns in enumerate(tables):
        count = len(next(iter(columns.values())))
        folders.append(folder / f"run{i}")
        write_table(folders[-1], pd.DataFrame(columns, index=CASES[:count]))
    return rank(read_study(folders))


def test_the_worst_comes_first_whichever_way_a_metric_runs(tmp_path: Path) -> None:
    assert ranking(tmp_path / "a", {"lesion_dice": [0.5, 0.1, 0.9]}).ranked == ["c1", "c0", "c2"]
    assert ranking(tmp_path / "b", {"false_ml": [0.5, 0.1, 0.9]}).ranked == ["c2", "c0", "c1"]


def test_what_is_not_defined_has_no_rank(tmp_path: Path) -> None:
    found = ranking(tmp_path, {"lesion_dice": [0.5, NAN, 0.1]})
    assert (found.ranked, found.unranked) == (["c2", "c0"], ["c1"])


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ({"psnr_dwi": [1.0], "brain_mae_dwi": [1.0], "lesion_mae_dwi": [1.0], "lesion_dice": [1.0]}, "lesion_dice"),
        ({"psnr_dwi": [1.0], "brain_mae_dwi": [1.0], "lesion_mae_dwi": [1.0], "lesion_dice": [NAN]}, "lesion_mae_dwi"),
        ({"psnr_dwi": [1.0], "brain_mae_dwi": [1.0], "lesion_mae_dwi": [NAN]}, "brain_mae_dwi"),
        ({"psnr_dwi": [1.0]}, "psnr_dwi"),
        ({"of_my_own": [1.0]}, ""),
    ],
)
def test_the_first_metric_with_values_ranks(tmp_path: Path, columns: dict[str, list[float]], chosen: str) -> None:
    found = ranking(tmp_path, columns)
    assert found.column == chosen
    assert found.ranked + found.unranked == ["c0"]


def test_the_last_arm_ranks(tmp_path: Path) -> None:
    assert ranking(tmp_path, {"lesion_dice": [0.1, 0.9]}, {"lesion_dice": [0.9, 0.1]}).ranked == ["c1", "c0"]


def test_an_arm_that_makes_images_ranks_before_one_that_does_not(tmp_path: Path) -> None:
    images = {"lesion_dice": [0.1, 0.9], "brain_mae_dwi": [0.1, 0.1]}
    assert ranking(tmp_path, images, images, {"lesion_dice": [0.9, 0.1]}).arm.name == "run1"


def test_worst_median_and_best_are_chosen_in_turn(tmp_path: Path) -> None:
    found = ranking(tmp_path, {"lesion_dice": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, NAN, NAN]})
    assert choose_cases(found, 4, CASES) == ["c0", "c3", "c6", "c7"]
    assert choose_cases(found, 6, CASES) == ["c0", "c1", "c2", "c3", "c6", "c7"]
    assert choose_cases(found, 0, CASES) == []
    assert choose_cases(found, None, CASES) == CASES
    assert choose_cases(found, 99, CASES) == CASES


def test_only_those_with_images_are_chosen(tmp_path: Path) -> None:
    found = ranking(tmp_path, {"lesion_dice": [0.1, 0.2, 0.3, 0.4, 0.5]})
    assert choose_cases(found, 2, ["c1", "c2", "c4"]) == ["c1", "c2"]
    assert choose_cases(found, None, ["c4", "c1"]) == ["c1", "c4"]
