"""The folder that a report is written to."""

from pathlib import Path

import pytest

from ctp_ldm.report.folder import ReportFolder, ReportFolderError, file_names


def files(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


def test_files_are_written_whole_and_counted(tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path / "out")
    folder.write("cases/a/1.png", b"1234")
    folder.write("index.html", "ä")
    folder.finish()
    assert files(tmp_path / "out") == {"cases/a/1.png", "index.html", "report.json"}
    assert folder.size == 6 + (tmp_path / "out" / "report.json").stat().st_size


def test_an_earlier_report_is_replaced_and_leaves_nothing(tmp_path: Path) -> None:
    earlier = ReportFolder(tmp_path)
    for name in ("cases/a.html", "cases/a/1.png", "cases/b/1.png", "figures/x.svg", "index.html"):
        earlier.write(name, "old")
    again = ReportFolder(tmp_path)  # the earlier one was interrupted: it never finished
    again.write("cases/b/1.png", "new")
    again.finish()
    assert files(tmp_path) == {"cases/b/1.png", "index.html", "report.json"}
    assert not (tmp_path / "cases" / "a").exists()
    assert (tmp_path / "cases" / "b" / "1.png").read_text() == "new"


@pytest.mark.parametrize("manifest", [None, "{", '{"made_by": "somebody else"}', "[]"])
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, manifest: str | None) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "precious").write_text("")
    if manifest is not None:
        (tmp_path / "report.json").write_text(manifest)
    with pytest.raises(ReportFolderError, match=r"holds other files, such as \['cases'.*name another --out"):
        ReportFolder(tmp_path)
    assert (tmp_path / "cases" / "precious").is_file()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ReportFolderError, match="out is a file"):
        ReportFolder(tmp_path / "out")


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path)
    folder.write("cases", "in the way")
    with pytest.raises(ReportFolderError, match=r"1\.png could not be written .* repeat the command"):
        folder.write("cases/1.png", b"")


def test_names_are_safe_and_different_on_every_system() -> None:
    cases = ["sub-1", "SUB-1", "../../etc/passwd", "a b", "a_b", "", "…", "con", "CON.x", "<b>", "x" * 300, ".hidden"]
    names = file_names(cases)
    assert list(names) == cases
    assert names["sub-1"] == "sub-1"
    assert len({name.casefold() for name in names.values()}) == len(cases)
    for name in names.values():
        assert name.replace("-", "").replace("_", "").replace(".", "").isalnum()
        assert not name.startswith(".")
        assert name.split(".")[0].lower() != "con"
        assert len(name) < 90
