"""The figure of a comparison: whom it shows, in which windows, and what happens where it cannot be made."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from ctp_ldm.display.panels import Panel, Row
from ctp_ldm.report import compare_runs, pictures
from report.tested import make_run

# Side of the lesion in voxels of 0.18 mL.
PATIENTS = {"large": 6, "small": 3, "free": 0}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    rows: list[Row] = []
    original = pictures.draw_rows
    monkeypatch.setattr(pictures, "draw_rows", lambda found, caption: (rows.extend(found), original(found, caption))[1])
    return rows


def two_runs(folder: Path, **second: object) -> list[Path]:
    first = make_run(folder / "control", PATIENTS, seed=1, error=0.4)
    return [first, make_run(folder / "ours", PATIENTS, seed=2, **second)]  # type: ignore[arg-type]


def columns(row: Row) -> dict[str, Panel]:
    return {panel.title: panel for group in row.groups for panel in group}


def test_every_patient_and_run_is_drawn_in_the_same_windows(tmp_path: Path, drawn: list[Row]) -> None:
    compare_runs(two_runs(tmp_path), tmp_path / "out")
    assert [row.label.split("\n") for row in drawn] == [
        ["large", "found", "lesion 19.4 mL"],
        ["free", "lesion-free", "no lesion"],
    ]
    for row in drawn:
        assert list(columns(row)) == ["before contrast", *(f"{t} {c}" for t in ("DWI", "ADC") for c in RUNS)]
        assert {(p.low, p.high) for title, p in columns(row).items() if title.startswith("DWI")} == {(0, 2.5)}
        assert {(p.low, p.high) for title, p in columns(row).items() if title.startswith("ADC")} == {(0, 2000)}
        assert columns(row)["ADC real"].heading == "ADC real\n0–2000 × 10⁻⁶ mm²/s"
    assert len({(p.low, p.high) for row in drawn for p in row.groups[0]}) == 1


RUNS = ("real", "control", "ours")


def test_what_each_run_found_is_outlined_and_counted(tmp_path: Path, drawn: list[Row]) -> None:
    compare_runs(two_runs(tmp_path), tmp_path / "out")
    large, free = (columns(row) for row in drawn)
    # What the fixture finds lies one voxel aside: 5 of 6 lines.
    assert large["DWI real"].note == "found 19.4 mL, 100 %"
    assert large["DWI ours"].note == "found 19.4 mL, 83 %"
    assert free["DWI ours"].note == "found 0.7 mL"
    assert large["ADC ours"].note == ""
    found = large["ADC ours"].found
    assert found is not None
    assert np.array_equal(found, np.roll(drawn[0].lesion, 1, axis=0))


def test_the_file_has_a_plain_and_an_outlined_line_for_each_patient(tmp_path: Path) -> None:
    compare_runs(two_runs(tmp_path), tmp_path / "out")
    picture = matplotlib.image.imread(tmp_path / "out" / "comparison.png")[..., :3]
    assert picture.std() > 0.05
    head = picture[: int(0.93 * len(picture))]  # without the legend
    grey, green = head.mean(axis=2) > 0.2, (head[..., 1] - head[..., 0] > 0.4)
    lines = np.array_split(np.arange(len(head)), 2)
    with_green = green.any(axis=1)
    assert with_green[lines[0]].any()
    assert not with_green[lines[1]].any(), "the second patient has no lesion"
    top = np.flatnonzero(with_green)[0]
    assert grey[: top - 40].any(axis=1).sum() > 100, "there are images above the outlined ones"


def test_the_rule_is_told_beside_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare_runs(two_runs(tmp_path), tmp_path / "out")
    rule = "Patients are chosen by what was found on images of ours. Found: the median of lesions of at least 10 mL"
    assert rule in capsys.readouterr().out
    assert rule in (tmp_path / "out" / "comparison.md").read_text()


def test_a_run_without_volumes_is_named_and_an_old_figure_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare_runs(two_runs(tmp_path), tmp_path / "out")
    lacking = tmp_path / "ours/test/volumes/large.npz"
    lacking.unlink()
    compare_runs([tmp_path / "control", tmp_path / "ours"], tmp_path / "out")
    assert not (tmp_path / "out" / "comparison.png").exists()
    for told in (capsys.readouterr().out, (tmp_path / "out" / "comparison.md").read_text()):
        assert "ours/test/volumes/large.npz is missing; run ctp-ldm test again" in told


def test_a_rival_without_images_is_left_out(tmp_path: Path, drawn: list[Row]) -> None:
    runs = [*two_runs(tmp_path), make_run(tmp_path / "direct", PATIENTS, images=False)]
    compare_runs(runs, tmp_path / "out")
    assert not any("direct" in title for row in drawn for title in columns(row))
    assert (tmp_path / "out" / "comparison.png").is_file()


def test_of_several_seeds_the_first_is_shown_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(tmp_path / name, PATIENTS, seed=i) for i, name in enumerate(("base", "ours-seed1", "ours-seed2"))]
    compare_runs(runs, tmp_path / "out")
    assert "(ours: ours-seed1)" in capsys.readouterr().out
