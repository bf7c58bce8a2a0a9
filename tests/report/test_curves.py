"""Operating curves of runs: rows, picture and figure, and what is said where a run has none."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ctp_ldm.metrics.curves import COLUMNS, CUTOFFS
from ctp_ldm.report import compare_runs
from ctp_ldm.report.curves import curve_rows, read_curves
from ctp_ldm.report.figures import curves
from ctp_ldm.report.study import read_study
from report.tested import write_table

REFERENCE = {"a": 20.0, "b": 40.0, "c": 30.0, "free": 0.0}


def make_run(folder: Path, slope: float | None, cutoff: float = 0.5) -> Path:
    """Of a map that finds the share s of each lesion with 20 slope s mL of false lesion; None: no curve."""
    write_table(folder, pd.DataFrame({"brain_mae_dwi": [0.1] * 4, "reference_ml": REFERENCE.values()}, list(REFERENCE)))
    (folder / "test/summary.json").write_text(json.dumps({"cutoff": cutoff}))
    if slope is not None:
        rows = [
            (case, c, (1 - c) * (ml + 20 * slope), (1 - c) * ml, ml) for case, ml in REFERENCE.items() for c in CUTOFFS
        ]
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / "test/curves.csv", index=False, float_format="%.6g")
    return folder


def test_compare_has_rows_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shares rise in a straight line to 1 at 20 mL and at 10 mL: areas 1/2 and 3/4, shares at 10 mL 1/2 and 1."""
    compare_runs([make_run(tmp_path / "one", 1.0), make_run(tmp_path / "two", 0.5, cutoff=0.9)], tmp_path / "out")
    text = (tmp_path / "out/comparison.md").read_text()
    one, two = (next(s for s in text.splitlines() if s.startswith(f"| {name} | 0.")) for name in ("one", "two"))
    assert re.match(r"\| one \| 0\.500 \[.*\] \| – \| 0\.500 \[.*\] \| – \| .* \| 0\.500 at 10\.0 mL \|", one)
    assert re.match(
        r"\| two \| 0\.750 \[.*\] \| 0\.250 \[.*\] \| 1\.000 \[.*\] \| 0\.500 \[.*\] \| .* \| 0\.100 at 1", two
    )
    picture = np.asarray(Image.open(tmp_path / "out/curves.png").convert("L"))
    assert picture[0, 0] == 255
    assert (picture < 100).any()
    assert "operating curves:" in capsys.readouterr().out


def test_a_run_without_curves_is_said_and_not_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(tmp_path / "one", 1.0), make_run(tmp_path / "old", None)]
    compare_runs(runs, tmp_path / "out")
    text = (tmp_path / "out/comparison.md").read_text()
    assert "- old has no operating curve:" in text
    assert "| one | 0.500" in text
    assert "old has no operating curve" in capsys.readouterr().out
    # Nobody has one: an earlier picture does not stay.
    (runs[0] / "test/curves.csv").write_text("case,cutoff\n")
    compare_runs(runs, tmp_path / "out")
    assert "one has no operating curve" in (tmp_path / "out/comparison.md").read_text()
    assert not (tmp_path / "out/curves.png").exists()
    assert curves(read_study(runs)) is None


def test_seeds_are_one_curve(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "x-seed1", 1.0), make_run(tmp_path / "x-seed2", 0.5)]
    found, lacking = read_curves(read_study(runs).arms)
    assert not lacking
    assert found["x"].used == pytest.approx((7.5, 0.5))
    assert found["x"].curve.sensitivity(7.5).mean == pytest.approx(0.5)
    assert len(curve_rows(found)) == 2


def test_the_reports_figure_has_a_line_a_band_and_a_dot_for_each_run(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "one", 1.0), make_run(tmp_path / "old", None), make_run(tmp_path / "two", 0.5)]
    figure = curves(read_study(runs))
    assert figure is not None
    (plot,) = figure.plots
    tags = [(e.tag.split("}")[1], e.attrib.get("class", "")) for e in ET.fromstring(plot.standalone()).iter()]
    assert [c for tag, c in tags if tag == "polyline"] == ["path thick arm-0", "path thick arm-2"]
    assert [c for tag, c in tags if tag == "polygon"] == ["ribbon arm-0", "ribbon arm-2"]
    dots = [e for e in ET.fromstring(plot.standalone()).iter() if e.tag.endswith("circle")]
    assert float(dots[0].attrib["cx"]) == pytest.approx(plot.across(10.0), abs=0.1)
    assert float(dots[0].attrib["cy"]) == pytest.approx(plot.down(0.5), abs=0.1)
    assert "nan" not in plot.standalone()
    assert "two: area 0.750" in figure.caption
    assert "old has no operating curve" in figure.caption
