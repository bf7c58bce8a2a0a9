"""The list of cases as CSV, links to NIfTI files, and what pages say of places."""

import csv
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from ctp_ldm.report import write_report
from ctp_ldm.report.download import case_csv, safe_cell
from report.tested import SEGMENTER, make_run

EVIL = {"=cmd|' /C calc'!A0": 4, '<b>&"x': 3, "plain": 0, "@SUM(1)": 5, "-2+3": 4}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    patients = EVIL
    runs = [make_run(tmp_path / name, patients, seed=i) for i, name in enumerate(("control", "ours"))]
    for case in ('<b>&"x', "plain"):
        folder = runs[1] / "predictions" / case
        folder.mkdir(parents=True)
        (folder / f"{case}_desc-synthetic_dwi.nii.gz").write_text("")
        (folder / f"{case}_desc-synthetic_dwi.json").write_text("")
    return write_report(runs, tmp_path / "out").parent


def test_no_case_is_a_formula_or_a_tag(out: Path) -> None:
    lines = list(csv.reader((out / "cases.csv").read_text(encoding="utf-8-sig").splitlines()))
    names = {line[0] for line in lines[1:]}
    assert names == {"'=cmd|' /C calc'!A0", '<b>&"x', "plain", "'@SUM(1)", "'-2+3"}
    assert lines[0][:2] == ["case", "reference lesion volume, mL"]
    assert len({len(line) for line in lines}) == 1
    assert all(float(cell) >= 0 for line in lines[1:] for cell in line[1:] if cell)
    for file in out.rglob("*.html"):
        assert not re.search(r'<b>|&"x', file.read_text())
    # What programs read has the names that the user gave.
    table = (out.parent / "control" / "test" / "patients.csv").read_text()
    assert {line[0] for line in csv.reader(table.splitlines()[1:])} == set(EVIL)


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@A", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_what_begins_a_formula_is_guarded(text: str) -> None:
    assert safe_cell(text) == "'" + text
    assert safe_cell("a" + text) == "a" + text


def test_a_negative_number_stays_a_number() -> None:
    table = {
        "groups": [{"unit": "mL", "span": 1}, {"unit": "", "span": 1}],
        "columns": [{"full": "volume"}, {"full": "-x"}],
        "rows": [{"case": "-1", "cells": [{"value": "-2.5"}, {"value": ""}]}],
    }
    assert list(csv.reader(case_csv(table)[1:].splitlines())) == [["case", "volume, mL", "'-x"], ["'-1", "-2.5", ""]]


def links(page: Path) -> list[str]:
    return re.findall(r'href="([^"]+\.nii\.gz)"', page.read_text())


def test_predictions_beside_the_report_are_linked(out: Path) -> None:
    (address,) = links(out / "cases" / "plain.html")
    assert address == "../../ours/predictions/plain/plain_desc-synthetic_dwi.nii.gz"
    every = [(page, address) for page in (out / "cases").glob("*.html") for address in links(page)]
    assert len(every) == 2
    assert all((page.parent / unquote(address)).is_file() for page, address in every)


def test_predictions_elsewhere_are_not_linked_and_no_page_says_where_runs_lie(tmp_path: Path) -> None:
    secret = tmp_path / "hospital of Jane Doe"
    summary = {
        "checkpoint": str(secret / "one" / "checkpoints" / "best.ckpt"),
        "segmenter": {**SEGMENTER, "path": str(secret / "judge" / "checkpoints" / "best.ckpt")},
    }
    runs = [make_run(secret / name, {"sub-1": 4, "sub-2": 3}, summary=summary) for name in ("one", "two")]
    (runs[0] / "predictions" / "sub-1").mkdir(parents=True)
    (runs[0] / "predictions" / "sub-1" / "sub-1_desc-synthetic_dwi.nii.gz").write_text("")
    (runs[0] / "test" / "volumes" / "sub-1.npz").write_bytes(b"")
    for run in runs:
        (run / "test" / "volumes" / "sub-2.npz").write_bytes(b"")
    out = write_report([*runs, secret / "untested"], tmp_path / "elsewhere" / "out").parent
    assert links(out / "cases" / "sub-1.html") == []
    for file in out.rglob("*"):
        if file.is_file():
            assert not re.search(r"Jane Doe|/tmp/|" + re.escape(str(tmp_path)), file.read_text()), file
    text = (out / "index.html").read_text()
    assert "one/checkpoints/best.ckpt" in text
    assert "judge/checkpoints/best.ckpt" in text
    assert "A run is left out: untested/test/patients.csv is missing" in text
