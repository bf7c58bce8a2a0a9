"""Seeds are one arm; apples are not compared with oranges."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctp_ldm.report.arms import Arm, choose_reference, group_runs, read_arms, require_comparable
from ctp_ldm.report.runs import ComparisonError
from report.tested import SEGMENTER, SPEC, write_table


def run(folder: Path, dice: list[float], cases: list[str] | None = None, **summary: Any) -> Path:
    write_table(folder, pd.DataFrame({"dice": dice}, index=cases or ["a", "b"]))
    if summary:
        (folder / "test" / "summary.json").write_text(json.dumps(summary))
    return folder


def changed_spec(**target: Any) -> dict[str, Any]:
    """SPEC as plain data with another scaling of the first target."""
    plain = SPEC.to_plain()
    plain["target"][0]["scaling"].update(target)
    return plain


def arms_of(*folders: Path) -> list[Arm]:
    return read_arms(folders)


def names(*folders: str) -> list[tuple[str, list[str]]]:
    return [(name, [str(member) for member in members]) for name, members in group_runs([Path(f) for f in folders])]


def test_runs_that_differ_in_a_trailing_seed_are_one_arm() -> None:
    assert names("r/control", "r/ours-seed1", "r/ours-seed20") == [
        ("control", ["r/control"]),
        ("ours", ["r/ours-seed1", "r/ours-seed20"]),
    ]


def test_a_single_seed_keeps_its_name_and_folders_keep_arms_apart() -> None:
    assert names("r/ours-seed1") == [("ours-seed1", ["r/ours-seed1"])]
    assert names("a/ours", "b/ours") == [("a/ours", ["a/ours"]), ("b/ours", ["b/ours"])]
    assert names("a/o-seed1", "a/o-seed2", "b/o-seed1", "b/o-seed2") == [
        ("a/o", ["a/o-seed1", "a/o-seed2"]),
        ("b/o", ["b/o-seed1", "b/o-seed2"]),
    ]


def test_a_run_named_twice_is_refused() -> None:
    with pytest.raises(ComparisonError, match="a run is named twice"):
        names("r/ours", "r/../r/ours")


def test_seeds_are_averaged_per_patient_where_defined(tmp_path: Path) -> None:
    (arm,) = arms_of(run(tmp_path / "o-seed1", [0.2, 0.4]), run(tmp_path / "o-seed2", [0.4, np.nan]))
    assert arm.patients["dice"].to_dict() == pytest.approx({"a": 0.3, "b": 0.4})
    assert arm.seed_deviation["dice"] == pytest.approx(np.std([0.3, 0.4], ddof=1))


def test_seeds_with_other_metrics_are_refused(tmp_path: Path) -> None:
    folders = run(tmp_path / "o-seed1", [1, 1]), tmp_path / "o-seed2"
    write_table(folders[1], pd.DataFrame({"psnr_dwi": [1, 1]}, index=["a", "b"]))
    with pytest.raises(ComparisonError, match="not all seeds of o have dice, psnr_dwi"):
        require_comparable(arms_of(*folders))


def test_other_patients_are_refused_and_named(tmp_path: Path) -> None:
    folders = run(tmp_path / "one", [1, 1]), run(tmp_path / "two", [1, 1], ["a", "c"])
    with pytest.raises(ComparisonError, match=r"one and two were tested on different patients, such as \['b', 'c'\]"):
        require_comparable(arms_of(*folders))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (changed_spec(high=5.0), "scaling of target dwi"),
        (changed_spec(unit="arbitrary"), "scaling of target dwi"),
        ({**SPEC.to_plain(), "target": SPEC.to_plain()["target"][:1]}, "target channels"),
        ({**SPEC.to_plain(), "spacing": 2.0}, "spacing: 6.0 ≠ 2.0"),
    ],
)
def test_other_scalings_units_and_grids_are_refused(tmp_path: Path, spec: dict[str, Any], message: str) -> None:
    folders = run(tmp_path / "one", [1, 1], spec=SPEC.to_plain()), run(tmp_path / "two", [1, 1], spec=spec)
    with pytest.raises(ComparisonError, match=message) as fault:
        require_comparable(arms_of(*folders))
    assert "one and two do not agree" in str(fault.value)
    assert "test both with the same data section" in str(fault.value)


def test_other_sources_are_what_is_compared(tmp_path: Path) -> None:
    maps = {**SPEC.to_plain(), "source": []}
    folders = run(tmp_path / "one", [1, 1], spec=SPEC.to_plain()), run(tmp_path / "two", [1, 1], spec=maps)
    require_comparable(arms_of(*folders))


def test_other_segmenters_are_refused(tmp_path: Path) -> None:
    other = {"path": "other.ckpt", "sha256": "0" * 64}
    folders = run(tmp_path / "one", [1, 1], segmenter=SEGMENTER), run(tmp_path / "two", [1, 1], segmenter=other)
    with pytest.raises(
        ComparisonError, match=r"judged by different segmenters \(runs/segmenter/best.ckpt, other.ckpt\)"
    ):
        require_comparable(arms_of(*folders))


def test_the_reference_is_the_first_unless_named(tmp_path: Path) -> None:
    arms = arms_of(run(tmp_path / "one", [1, 1]), run(tmp_path / "two", [1, 1]))
    assert choose_reference(arms, None) is arms[0]
    assert choose_reference(arms, "two") is arms[1]
    with pytest.raises(ComparisonError, match="--reference three is none of the runs: one, two"):
        choose_reference(arms, "three")
