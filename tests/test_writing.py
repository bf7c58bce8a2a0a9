"""Files that appear whole, and of which several processes may write the same one."""

from pathlib import Path

import pytest

from ctp_ldm.writing import whole_file


def test_two_who_write_the_same_file_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "sub-1.nii.gz"
    with whole_file(path) as one, whole_file(path) as other:
        assert one.name.endswith(".nii.gz")  # what nibabel and numpy tell the format by
        one.write_text("whole")
        other.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "sub-1.json"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError), whole_file(path) as partial:
        partial.write_text("half…", encoding="ascii")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
