"""Finding cases in the layouts, and naming what is wrong with a folder as a whole."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from ctp_ldm.data.cases import Case, Layout, find_cases
from ctp_ldm.data.faults import CaseFault
from ctp_ldm.data.layouts import ISLES24, CaseFolders

from .files import isles_file

ROLES = ("ctp", "dwi", "adc", "brain", "lesion")


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _isles_case(root: Path, index: int) -> dict[str, Path]:
    files = {role: isles_file(root, index, role) for role in ("ctp", "dwi", "adc")}
    files["lesion"] = isles_file(root, index, "lesion-msk")
    _touch(*files.values())
    return files


@pytest.mark.parametrize("below", [".", "train"])
def test_isles24_files_are_found_by_role(tmp_path: Path, below: str) -> None:
    expected = {f"sub-stroke{i:04d}": _isles_case(tmp_path / below, i) for i in (2, 1)}
    _touch(tmp_path / below / "derivatives" / "README.md", tmp_path / below / "derivatives" / "sub-note.txt")
    cases, faults = find_cases(ISLES24(), tmp_path, ROLES)
    assert not faults
    assert {case.name: case.files for case in cases} == expected
    assert [case.name for case in cases] == sorted(expected)


def test_isles24_takes_a_brain_mask_and_says_where_it_looked_for_what_is_missing(tmp_path: Path) -> None:
    _isles_case(tmp_path, 1)
    isles_file(tmp_path, 1, "adc").unlink()
    folder = tmp_path / "derivatives" / "sub-stroke0001"
    brain = folder / "ses-01" / "sub-stroke0001_ses-01_space-ncct_brain-msk.nii.gz"
    _touch(brain)
    (case,), _ = find_cases(ISLES24(), tmp_path, ROLES)
    assert case.files["brain"] == brain
    assert "adc" not in case.files
    assert case.expected["adc"] == isles_file(tmp_path, 1, "adc")


@pytest.mark.parametrize(
    ("masks", "taken"),
    [(("mask",), "mask"), (("brain",), "brain"), (("brain", "mask"), "brain"), ((), None)],
)
def test_case_folders_take_the_brain_mask_under_both_names(
    tmp_path: Path, masks: tuple[str, ...], taken: str | None
) -> None:
    folder = tmp_path / "p1"
    _touch(folder / "ctp.nii.gz", folder / "lesion.nii.gz", *(folder / f"{name}.nii.gz" for name in masks))
    (case,), faults = find_cases(CaseFolders(), tmp_path, ROLES)
    assert not faults
    assert case.files["ctp"] == folder / "ctp.nii.gz"
    assert case.files["lesion"] == folder / "lesion.nii.gz"
    assert case.files.get("brain") == (folder / f"{taken}.nii.gz" if taken else None)


def test_case_folders_pass_over_what_is_no_case(tmp_path: Path) -> None:
    _touch(
        tmp_path / "p1" / "ctp.nii.gz",
        tmp_path / "notes" / "readme.txt",
        tmp_path / ".hidden" / "ctp.nii.gz",
        tmp_path / "ctp.nii.gz",
    )
    cases, faults = find_cases(CaseFolders(), tmp_path, ROLES)
    assert [case.name for case in cases] == ["p1"]
    assert not faults


@pytest.mark.parametrize("name", ["two words", "-dash", "ümlaut", "x" * 101, "semi;colon"])
def test_a_name_unfit_for_a_file_is_a_fault_of_that_case_alone(tmp_path: Path, name: str) -> None:
    _touch(tmp_path / name / "ctp.nii.gz", tmp_path / "good_1.a-b" / "ctp.nii.gz")
    cases, faults = find_cases(CaseFolders(), tmp_path, ROLES)
    assert [case.name for case in cases] == ["good_1.a-b"]
    assert [fault.case for fault in faults] == [name]
    assert "unfit" in faults[0].message


def test_a_case_found_twice_is_a_fault_that_names_both_places(tmp_path: Path) -> None:
    _isles_case(tmp_path, 1)
    _isles_case(tmp_path / "train", 1)
    cases, (fault,) = find_cases(ISLES24(), tmp_path, ROLES)
    assert len(cases) == 1
    assert fault.case == "sub-stroke0001"
    for base in (tmp_path, tmp_path / "train"):
        assert str(base / "derivatives" / "sub-stroke0001" / "ses-01") in fault.message


class Doubtful(Layout):
    """Finds something wrong with each case."""

    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        return [Case(name, {}, faults=("two files for ctp", "one too small")) for name in ("a", "b")]


def test_what_a_layout_finds_wrong_is_a_fault_of_its_case(tmp_path: Path) -> None:
    cases, faults = find_cases(Doubtful(), tmp_path, ROLES)
    assert [case.name for case in cases] == ["a", "b"]
    assert faults == [CaseFault(n, message) for n in ("a", "b") for message in ("two files for ctp", "one too small")]


@pytest.mark.parametrize("layout", [ISLES24(), CaseFolders()])
def test_a_folder_without_cases_is_refused_with_what_was_expected(tmp_path: Path, layout: Layout) -> None:
    _touch(tmp_path / "other" / "scan.nii.gz")
    with pytest.raises(FileNotFoundError, match=rf"no case found in {re.escape(str(tmp_path))}.*nii\.gz"):
        find_cases(layout, tmp_path, ROLES)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; expected the root of the data set"):
        find_cases(ISLES24(), tmp_path / "nowhere", ROLES)
