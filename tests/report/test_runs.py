"""What a run's test folder may hold, and what is said of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctp_ldm.metrics import VolumesError
from ctp_ldm.report.runs import ComparisonError, read_run
from report.tested import SEGMENTER, SPEC, make_run, patient, write_table


def test_all_that_test_wrote_is_read(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run"))
    assert list(run.patients.index) == ["SUB-1", "sub-1", "sub-2", "Ünal & <b>Söhne</b>"]
    assert run.spec == SPEC
    assert run.segmenter == SEGMENTER
    assert run.has_volumes("sub-1")
    np.testing.assert_allclose(run.volumes("sub-1").real, patient("sub-1", 6).real, rtol=1e-3)


def test_a_run_without_summary_has_its_table(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    for content in ("{", "[1]", '{"spec": {"source": 7}}'):
        (folder / "test" / "summary.json").write_text(content)
        run = read_run(folder)
        assert len(run.patients) == 4
        assert run.spec is None
        assert run.segmenter is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a table of numbers with a column case"),
        ("name,dice\na,1\n", "is not a table of numbers with a column case"),
        ("case,dice\na,good\n", "is not a table of numbers with a column case"),
        ("case,dice\n", "names no patient"),
        ("case,dice\n,1\n", "names no patient, or not all"),
        ("case,dice\na,1\na,2\n", r"has patients twice, such as \['a'\]"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_the_remedy(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "patients.csv").write_text(content)
    with pytest.raises(ComparisonError, match=message) as fault:
        read_run(tmp_path)
    assert "patients.csv" in str(fault.value)
    assert "run ctp-ldm test" in str(fault.value)


def test_case_names_stay_text(tmp_path: Path) -> None:
    write_table(tmp_path, pd.DataFrame({"dice": [0.5, 0.6]}, index=["007", "1e3"]))
    assert list(read_run(tmp_path).patients.index) == ["007", "1e3"]


def test_missing_damaged_and_mistaken_volumes_are_named(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", without_volumes=["sub-1"]))
    volumes = run.folder / "test" / "volumes"
    assert not run.has_volumes("sub-1")
    with pytest.raises(VolumesError, match=r"sub-1\.npz is missing; run ctp-ldm test again"):
        run.volumes("sub-1")
    (volumes / "sub-1.npz").write_bytes(b"no archive")
    with pytest.raises(VolumesError, match=r"sub-1\.npz cannot be read"):
        run.volumes("sub-1")
    (volumes / "sub-2.npz").replace(volumes / "sub-1.npz")
    with pytest.raises(VolumesError, match="holds patient 'sub-2', expected 'sub-1'"):
        run.volumes("sub-1")
