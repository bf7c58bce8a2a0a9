"""Where each layout looks, in the spellings that are about, and what it says where files are missing or too many."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctp_ldm.data import (
    ISLES18,
    ISLES22,
    ISLES24,
    Case,
    CaseFolders,
    CTPToDiffusionMRI,
    Datalist,
    Layout,
    RobustRange,
    Settings,
    Task,
    check,
)
from ctp_ldm.data.cases import find_cases
from ctp_ldm.data.check import inspect_case
from ctp_ldm.data.faults import DataFault

from . import trees
from .trees import IMAGES, NAMES, Names, Paths

SETTINGS = Settings(spacing=6.0, size=(32, 40))


def _touch(paths: Iterable[Path]) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _found(layout: Layout, root: Path, roles: Iterable[str] = IMAGES) -> dict[str, Case]:
    """The cases of a tree in which nothing is wrong as a whole."""
    cases, faults = find_cases(layout, root, roles)
    assert not faults
    return {case.name: case for case in cases}


def _only(layout: Layout, root: Path, roles: Iterable[str] = IMAGES) -> Case:
    (case,) = _found(layout, root, roles).values()
    return case


# ------------------------------------------------------------------------------------------------------------- ISLES'24


@pytest.mark.parametrize(
    "names", NAMES, ids=lambda n: "-".join((n.below, n.raw, n.patient, n.session, n.lesion, n.ending))
)
def test_isles24_is_found_in_every_spelling(tmp_path: Path, names: Names) -> None:
    written = {f"{names.patient}{i:04d}": trees.isles24(tmp_path, i, names) for i in (12, 1)}
    _touch(path for files in written.values() for path in files.values())
    found = _found(ISLES24(), tmp_path)
    assert {name: case.files for name, case in found.items()} == written
    assert list(found) == sorted(written)


@pytest.mark.parametrize(("folder", "inside"), [("sub-stroke0001", "case"), ("sub-strokecase0001", "")])
def test_isles24_files_may_spell_their_patient_otherwise_than_their_folder(
    tmp_path: Path, folder: str, inside: str
) -> None:
    for path in trees.isles24(tmp_path, 1, Names(patient=folder.removesuffix("0001"))).values():
        _touch([path.with_name(path.name.replace(folder, f"sub-stroke{inside}0001"))])
    assert set(_only(ISLES24(), tmp_path).files) == set(IMAGES)


def test_isles24_passes_over_another_patients_files(tmp_path: Path) -> None:
    for path in trees.isles24(tmp_path, 1).values():
        _touch([path.with_name(path.name.replace("0001", "0011"))])
    assert _only(ISLES24(), tmp_path).files == {}


@pytest.mark.parametrize("role", ["ctp", "tmax", "dwi", "lesion"])
def test_isles24_prefers_the_space_of_the_ct_and_takes_the_other_where_there_is_nothing_else(
    tmp_path: Path, role: str
) -> None:
    right = trees.isles24(tmp_path, 1)[role]
    stray = right.with_name(right.name.replace("_space-ncct", ""))
    _touch([right, stray])
    assert _only(ISLES24(), tmp_path, [role]).files == {role: right}
    right.unlink()
    assert _only(ISLES24(), tmp_path, [role]).files == {role: stray}


@pytest.mark.parametrize(
    "names", [Names(), Names(raw="rawdata", session="ses-000"), Names("train", patient="sub-strokecase")], ids=str
)
@pytest.mark.parametrize("role", IMAGES)
def test_isles24_says_where_it_looked_for_what_is_missing(tmp_path: Path, names: Names, role: str) -> None:
    files = trees.isles24(tmp_path, 1, names)
    _touch(files.values())
    files[role].unlink()
    case = _only(ISLES24(), tmp_path)
    assert role not in case.files
    assert case.expected[role] == files[role]


# --------------------------------------------------------------------------------------------------- ISLES'22, ISLES'18

MRI = ("dwi", "adc", "flair", "lesion")


@pytest.mark.parametrize("raw", ["rawdata", "raw_data", "."])
@pytest.mark.parametrize("folders", [False, True], ids=["flat", "dwi-anat"])
def test_isles22_is_found_in_every_spelling(tmp_path: Path, raw: str, folders: bool) -> None:
    written = {f"sub-strokecase{i:04d}": trees.isles22(tmp_path, i, raw, folders) for i in (1, 2)}
    _touch(path for files in written.values() for path in files.values())
    assert {name: case.files for name, case in _found(ISLES22(), tmp_path, MRI).items()} == written


def test_isles22_takes_the_first_session(tmp_path: Path) -> None:
    files = trees.isles22(tmp_path, 1)
    _touch(files.values())
    _touch(Path(str(path).replace("ses-0001", "ses-0002")) for path in files.values())
    assert _only(ISLES22(), tmp_path, MRI).files == files


@pytest.mark.parametrize("role", MRI)
def test_isles22_says_where_it_looked_for_what_is_missing(tmp_path: Path, role: str) -> None:
    files = trees.isles22(tmp_path, 1)
    _touch(files.values())
    files[role].unlink()
    assert _only(ISLES22(), tmp_path, MRI).expected[role] == files[role]


def test_isles22_expects_a_role_of_ones_own_under_its_own_name(tmp_path: Path) -> None:
    _touch(trees.isles22(tmp_path, 1).values())
    expected = _only(ISLES22(), tmp_path, ["dwi-b0"]).expected["dwi-b0"]
    assert expected.name == "sub-strokecase0001_ses-0001_dwi-b0.nii.gz"


def test_isles18_numbers_both_of_its_parts_from_one(tmp_path: Path) -> None:
    written = {
        f"{part.lower()}_case_{i}": trees.isles18(tmp_path, i, part)
        for part in ("TESTING", "TRAINING")
        for i in (2, 10)
    }
    _touch(path for files in written.values() for path in files.values())
    found = _found(ISLES18(), tmp_path)
    assert {name: case.files for name, case in found.items()} == written
    assert list(found) == list(written)


@pytest.mark.parametrize(("below", "name"), [("TRAINING", "training_case_3"), ("elsewhere", "case_3")])
def test_isles18_may_start_at_the_folder_of_the_cases(tmp_path: Path, below: str, name: str) -> None:
    files = trees.isles18(tmp_path, 3, below)
    _touch(files.values())
    case = _only(ISLES18(), tmp_path / below)
    assert (case.name, case.files) == (name, files)


def test_isles18_says_where_it_looked_for_what_is_missing(tmp_path: Path) -> None:
    files = trees.isles18(tmp_path, 1)
    _touch(files.values())
    files["tmax"].unlink()
    stem = "SMIR.Brain.XX.O.CT_Tmax.<id>"
    assert _only(ISLES18(), tmp_path).expected["tmax"] == tmp_path / "TRAINING" / "case_1" / stem / f"{stem}.nii"


# ----------------------------------------------------------------------------------------------------------- any layout


def _case_folder(root: Path) -> Paths:
    return trees.case_folder(root, "p1")


@pytest.mark.parametrize(
    ("layout", "files"),
    [(ISLES24(), trees.isles24), (ISLES22(), trees.isles22), (CaseFolders(), _case_folder)],
    ids=lambda v: type(v).__name__ if isinstance(v, Layout) else "",
)
def test_two_files_for_a_role_are_a_fault_of_their_case_that_names_both(
    tmp_path: Path, layout: Layout, files: object
) -> None:
    arguments = (tmp_path, 1) if files is not _case_folder else (tmp_path,)
    path = files(*arguments)["dwi"]  # type: ignore[operator]
    both = [path.with_suffix(""), path]
    _touch(both)
    (case,), (fault,) = find_cases(layout, tmp_path, ["dwi"])
    assert fault.case == case.name
    assert fault.message.startswith(f"2 files for dwi: {both[0]}, {both[1]};")


def test_two_ids_of_one_kind_are_a_fault_in_isles18(tmp_path: Path) -> None:
    path = trees.isles18(tmp_path, 1)["ctp"]
    again = path.parents[1] / "SMIR.Brain.XX.O.CT_4DPWI.9" / "SMIR.Brain.XX.O.CT_4DPWI.9.nii"
    _touch([path, again])
    _, (fault,) = find_cases(ISLES18(), tmp_path, ["ctp"])
    assert {str(path), str(again)} == set(re.split(r": |, |; ", fault.message)[1:3])


@pytest.mark.parametrize("layout", [ISLES18(), ISLES22(), ISLES24(), CaseFolders()], ids=lambda v: type(v).__name__)
def test_a_folder_without_cases_is_answered_with_what_was_expected(tmp_path: Path, layout: Layout) -> None:
    _touch([tmp_path / "other" / "scan.nii.gz"])
    with pytest.raises(FileNotFoundError, match=rf"no case found in {re.escape(str(tmp_path))}.*\.nii"):
        find_cases(layout, tmp_path, IMAGES)


class Flat(Layout):
    """`<patient>-<role>.nii.gz`, all in one folder."""

    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        names = sorted({path.name.split("-")[0] for path in root.glob("*-*.nii.gz")})
        expected = {name: {role: root / f"{name}-{role}.nii.gz" for role in roles} for name in names}
        return [Case(n, {r: p for r, p in paths.items() if p.is_file()}, paths) for n, paths in expected.items()]


def test_a_layout_of_ones_own_is_one_subclass(tmp_path: Path) -> None:
    for seed in (1, 2):
        trees.write_case({r: tmp_path / f"p{seed}-{r}.nii.gz" for r in ("dwi", "cbf")}, trees.patient(seed))
    (tmp_path / "p2-cbf.nii.gz").unlink()
    found = check(tmp_path, Task({"dwi": RobustRange()}, {"cbf": RobustRange()}), Flat(), SETTINGS, workers=1)
    assert found.cases["p1"].faults == []
    (fault,) = found.cases["p2"].faults
    assert f"expected {tmp_path / 'p2-cbf.nii.gz'}" in fault


# ------------------------------------------------------------------------------------------------------------ datalists


@pytest.fixture
def imaged(tmp_path: Path) -> dict[str, Paths]:
    """Two patients' files in decathlon folders."""
    written = {name: trees.decathlon(tmp_path, name) for name in ("a", "b")}
    _touch(path for files in written.values() for path in files.values())
    return written


KEYS = {"image": "ctp", "label": "lesion"}


def test_a_datalist_gives_its_own_words_to_roles_and_reads_every_list_of_cases(
    tmp_path: Path, imaged: dict[str, Paths]
) -> None:
    a, b = imaged["a"], imaged["b"]
    content = {
        "name": "stroke",
        "modality": {"0": "CT"},
        "labels": ["background", "lesion"],
        "numTraining": 1,
        "training": [{"image": a["ctp"], "label": a["lesion"], "dwi": a["dwi"], "fold": 0}],
        "test": [b["ctp"]],
    }
    trees.write_datalist(tmp_path / "dataset.json", content)
    found = _found(Datalist(keys=KEYS), tmp_path)
    assert {name: case.files for name, case in found.items()} == {
        "a": {"ctp": a["ctp"], "lesion": a["lesion"], "dwi": a["dwi"]},
        "b": {"ctp": b["ctp"]},
    }
    assert list(_found(Datalist(sections=["test"], keys=KEYS), tmp_path)) == ["b"]


@pytest.mark.parametrize("given_file", [False, True])
def test_a_datalist_may_have_another_name(tmp_path: Path, imaged: dict[str, Paths], given_file: bool) -> None:
    trees.write_datalist(tmp_path / "list.json", {"training": [imaged["a"]]})
    layout = Datalist() if given_file else Datalist("list.json")
    assert _only(layout, tmp_path / "list.json" if given_file else tmp_path).files == imaged["a"]


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (["imagesTr/a.nii.gz"], ["a"]),
        (["p1/ctp.nii.gz"], ["p1"]),
        (["p1/scan.nii.gz", "p2/scan.nii.gz"], ["p1", "p2"]),
        (["imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "imagesTs/c.nii.gz"], ["a", "b", "c"]),
    ],
)
def test_a_case_of_one_file_is_called_after_what_tells_it_from_others(
    tmp_path: Path, listed: list[str], names: list[str]
) -> None:
    _touch(tmp_path / path for path in listed)
    trees.write_datalist(tmp_path / "dataset.json", {"training": listed[:-1], "test": listed[-1:]})
    assert list(_found(Datalist(keys=KEYS), tmp_path)) == names
    assert list(_found(Datalist(sections=["test"], keys=KEYS), tmp_path)) == names[-1:]


@pytest.mark.parametrize("key", ["name", "case", "id", "subject"])
def test_a_case_of_a_datalist_is_called_what_it_says(tmp_path: Path, imaged: dict[str, Paths], key: str) -> None:
    trees.write_datalist(tmp_path / "dataset.json", {"training": [{**imaged["a"], key: 17}]})
    assert _only(Datalist(), tmp_path).name == "17"


def test_a_case_of_a_datalist_is_called_after_a_folder_of_its_own(tmp_path: Path) -> None:
    files = [trees.case_folder(tmp_path, name) for name in ("p1", "p2")]
    _touch(path for paths in files for path in paths.values())
    trees.write_datalist(tmp_path / "dataset.json", {"training": files})
    assert list(_found(Datalist(), tmp_path)) == ["p1", "p2"]


def test_absolute_paths_of_a_datalist_are_taken_as_they_are(tmp_path: Path, imaged: dict[str, Paths]) -> None:
    elsewhere = tmp_path / "lists" / "dataset.json"
    elsewhere.parent.mkdir()
    elsewhere.write_text(json.dumps({"training": [{"ctp": str(imaged["a"]["ctp"])}]}))
    assert _only(Datalist(), elsewhere).files == {"ctp": imaged["a"]["ctp"]}


def test_what_a_datalist_lists_and_is_not_there_is_a_fault_of_its_case(
    tmp_path: Path, imaged: dict[str, Paths]
) -> None:
    trees.write_datalist(tmp_path / "dataset.json", {"training": list(imaged.values())})
    imaged["b"]["adc"].unlink()
    cases, (fault,) = find_cases(Datalist(), tmp_path, IMAGES)
    assert [case.name for case in cases] == ["a", "b"]
    assert fault.case == "b"
    assert str(imaged["b"]["adc"].relative_to(tmp_path)) in fault.message
    assert "does not exist" in fault.message


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("{", "is not a datalist"),
        ("[]", "is not a datalist"),
        (None, "is not a datalist"),
        ('{"training": []}', "has no list of cases called fold1; found training"),
    ],
)
def test_a_datalist_that_is_none_is_answered_in_words(tmp_path: Path, content: str | None, answer: str) -> None:
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataFault, match=rf"{re.escape(str(tmp_path / 'dataset.json'))} {answer}"):
        find_cases(Datalist(sections=["fold1"]), tmp_path, IMAGES)


def test_a_datalist_without_images_is_answered_in_words(tmp_path: Path) -> None:
    trees.write_datalist(tmp_path / "dataset.json", {"training": [{"image": "a.png"}]})
    with pytest.raises(FileNotFoundError, match="Datalist expects: A MONAI or decathlon datalist"):
        find_cases(Datalist(), tmp_path, IMAGES)


# ------------------------------------------------------------------------------------------------------- frame interval


@pytest.mark.parametrize(
    ("stated", "header", "sidecar", "interval"),
    [
        pytest.param(None, None, None, 1.0, id="as-documented"),
        pytest.param(None, 1.5, None, 1.5, id="header"),
        pytest.param(1.2, 1.5, None, 1.2, id="user"),
        pytest.param(1.2, 1.5, {"RepetitionTime": 1.1}, 1.1, id="sidecar"),
        pytest.param(1.2, None, {"VolumeTiming": [1.3 * i for i in range(trees.FRAMES)]}, 1.3, id="volume-timing"),
    ],
)
def test_the_documented_frame_interval_of_isles24_is_used_where_nothing_better_says_so(
    tmp_path: Path, stated: float | None, header: float | None, sidecar: Mapping[str, object] | None, interval: float
) -> None:
    files = trees.isles24(tmp_path, 1)
    trees.write_case(files, trees.patient(1))
    if header is not None:
        image = nib.Nifti1Image.from_filename(files["ctp"])
        trees.state_interval(image, header)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), files["ctp"])
    if sidecar is not None:
        trees.mistimed(sidecar)(files)
    task = CTPToDiffusionMRI().task
    found = inspect_case(_only(ISLES24(), tmp_path, task.roles), task, Settings(6.0, (32, 40), frame_interval=stated))
    assert found.faults == []
    assert found.facts["ctp"]["interval"] == pytest.approx(interval)
    assert found.facts["ctp"]["seconds"] == pytest.approx(interval * (trees.FRAMES - 1))
