"""Where voxels lie: headers that tell it, and headers that are refused with what is wrong in them."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ctp_ldm.data.check import inspect_case
from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.layouts import CaseFolders
from ctp_ldm.data.module import CTPToDiffusionMRI
from ctp_ldm.data.preparation import Settings, prepare_case
from ctp_ldm.data.prepare import prepare
from ctp_ldm.data.volumes import read_volume, require_same_grid
from ctp_ldm.forms import Forms

from . import trees
from .files import AFFINE, save

VALUES = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
TIMED = trees.Encoding(interval=1.0)
TASK, SETTINGS = CTPToDiffusionMRI().task, Settings(6.0, (32, 40))


def with_header(path: Path, values: np.ndarray = VALUES, affine: np.ndarray = AFFINE, **fields: Any) -> Path:
    """A file whose header has these fields, whatever a library that writes files would think of them."""
    save(path, values, affine)
    return patch(path, **fields)


def patch(path: Path, **fields: Any) -> Path:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    raw[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw)))
    return path


def with_forms(path: Path, qform: np.ndarray, sform: np.ndarray, codes: tuple[int, int]) -> Path:
    image = nib.Nifti1Image(VALUES, None)
    image.set_sform(sform, codes[1])
    image.set_qform(qform, codes[0])
    nib.save(image, path)
    return path


def turned(**changes: float) -> np.ndarray:
    """`AFFINE` with other numbers at row and column: r0c3=5.0."""
    affine = AFFINE.copy()
    for place, value in changes.items():
        affine[int(place[1]), int(place[3])] = value
    return affine


def tilted(affine: np.ndarray, degrees: float = 20.0) -> np.ndarray:
    """Slices that are shifted against one another, as a gantry's tilt leaves them."""
    sheared = affine.copy()
    sheared[1, 2] = affine[2, 2] * np.tan(np.deg2rad(degrees))
    return sheared


# --------------------------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize(
    "other",
    [turned(r0c0=2.0, r0c3=-30.0), turned(r1c1=-2.0), turned(r2c3=13.0), turned(r2c2=6.0)],
    ids=["mirrored", "back-to-front", "shifted", "other-slices"],
)
@pytest.mark.parametrize("codes", [(1, 1), (1, 4), (3, 2)])
def test_forms_that_contradict_one_another_are_refused_by_both_names(
    tmp_path: Path, other: np.ndarray, codes: tuple[int, int]
) -> None:
    path = with_forms(tmp_path / "a.nii.gz", other, AFFINE, codes)
    said = rf"a\.nii\.gz has two forms .* mm apart: qform \(code {codes[0]}\) .* sform \(code {codes[1]}\) has axes LAS"
    with pytest.raises(DataFault, match=said):
        read_volume(path)


@pytest.mark.parametrize(("codes", "counts"), [((0, 2), "sform"), ((1, 0), "qform")])
def test_of_two_forms_the_one_with_a_code_counts(tmp_path: Path, codes: tuple[int, int], counts: str) -> None:
    forms = {"qform": turned(r1c3=44.0), "sform": AFFINE}
    read = read_volume(with_forms(tmp_path / "a.nii.gz", forms["qform"], forms["sform"], codes))
    np.testing.assert_allclose(read.file_affine, forms[counts], atol=1e-4)
    assert read.forms is not None
    assert read.forms.codes == codes


@pytest.mark.parametrize("sform", [AFFINE, tilted(AFFINE)], ids=["same", "a-shear-that-no-qform-holds"])
def test_forms_that_agree_as_far_as_they_can_are_read(tmp_path: Path, sform: np.ndarray) -> None:
    read = read_volume(with_forms(tmp_path / "a.nii.gz", sform, sform, (1, 1)))
    np.testing.assert_allclose(read.file_affine, sform, atol=1e-5)


def test_without_a_code_no_orientation_is_invented(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"a\.nii\.gz does not say which way its axes run .* sform_code 1"):
        read_volume(with_header(tmp_path / "a.nii.gz", qform_code=0, sform_code=0))


@pytest.mark.parametrize("fields", [{"sform_code": 9}, {"sform_code": -1}, {"sform_code": 0, "qform_code": 7}])
def test_a_code_that_nifti_does_not_know_counts_as_none(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(DataFault, match=r"a\.nii\.gz does not say which way its axes run"):
        read_volume(with_header(tmp_path / "a.nii.gz", **fields))


def test_a_quaternion_that_is_none_is_a_fault_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"a\.nii\.gz has a header that is none"):
        read_volume(with_header(tmp_path / "a.nii.gz", qform_code=1, quatern_b=3.0))


def test_a_quaternion_that_does_not_count_may_be_anything(tmp_path: Path) -> None:
    path = with_header(tmp_path / "a.nii.gz", qform_code=0, quatern_b=3.0)
    np.testing.assert_allclose(read_volume(path).file_affine, AFFINE)


@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (1, 0), (3, 4), (2, 5)])
@pytest.mark.parametrize("unit", ["mm", "micron", "meter"])
def test_what_is_made_from_a_file_has_its_forms_codes_and_unit(
    tmp_path: Path, codes: tuple[int, int], unit: str
) -> None:
    path = with_forms(tmp_path / "a.nii.gz", AFFINE, AFFINE, codes)
    image = nib.Nifti1Image.from_filename(path)
    forms = Forms.from_plain(Forms.of(image.header, unit).to_plain())
    made = nib.Nifti1Image(VALUES, np.eye(4))
    forms.apply(made)
    nib.save(made, tmp_path / "b.nii.gz")
    again = nib.Nifti1Image.from_filename(tmp_path / "b.nii.gz").header
    assert (int(again["qform_code"]), int(again["sform_code"])) == codes
    assert again.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(again.get_qform(), image.header.get_qform(), atol=1e-4)
    np.testing.assert_allclose(again.get_sform(), image.header.get_sform(), atol=1e-6)


# --------------------------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize("unit", ["micron", "meter", "mm"])
@pytest.mark.parametrize("codes", [(0, 1), (1, 0)])
def test_any_unit_of_length_becomes_mm(tmp_path: Path, unit: str, codes: tuple[int, int]) -> None:
    scale = {"micron": 1e3, "mm": 1.0, "meter": 1e-3}[unit]
    affine = AFFINE * np.array([scale, scale, scale, 1.0])[:, None]
    path = with_forms(tmp_path / "a.nii.gz", affine, affine, codes)
    read = read_volume(patch(path, xyzt_units={"micron": 3, "mm": 2, "meter": 1}[unit]))
    np.testing.assert_allclose(read.file_affine, AFFINE, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("code", [4, 5, 6, 7, 8 + 5])
def test_an_unknown_unit_of_length_is_a_fault_of_the_file(tmp_path: Path, code: int) -> None:
    said = rf"a\.nii\.gz has an unknown unit of length \(xyzt_units is {code}.*expected 1 \(m\), 2 \(mm\) or 3"
    with pytest.raises(DataFault, match=said):
        read_volume(with_header(tmp_path / "a.nii.gz", xyzt_units=code))


@pytest.mark.parametrize("code", [2 + 56, 2 + 64, 2 + 128 + 8])
def test_an_unknown_unit_of_time_matters_where_the_header_is_asked_for_times(tmp_path: Path, code: int) -> None:
    series = np.repeat(VALUES[..., None], 9, axis=-1)
    path = with_header(tmp_path / "a.nii.gz", series, xyzt_units=code)
    with pytest.raises(DataFault, match=r"a\.nii\.gz has an unknown unit of time .*expected 8 \(s\)"):
        read_volume(path, 4)
    np.testing.assert_array_equal(read_volume(path, 4, frame_interval=2.0).times, 2.0 * np.arange(9))
    read_volume(with_header(tmp_path / "b.nii.gz", xyzt_units=code))


@pytest.mark.parametrize(("scale", "unit"), [(1e-3, 2), (1.0, 3), (1.0, 1), (1e3, 2)])
def test_voxels_of_a_size_that_no_scanner_makes_are_refused(tmp_path: Path, scale: float, unit: int) -> None:
    affine = AFFINE * np.array([scale, scale, scale, 1.0])[:, None]
    path = with_header(tmp_path / "a.nii.gz", affine=affine, xyzt_units=unit)
    with pytest.raises(DataFault, match=r"a\.nii\.gz has voxels of .* mm .*set the right unit"):
        read_volume(path)


def test_one_file_of_an_unknown_unit_does_not_end_the_run(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        trees.write_case(trees.case_folder(tmp_path / "tree", f"p{seed}"), trees.patient(seed), TIMED)
    patch(tmp_path / "tree/p2/ctp.nii.gz", xyzt_units=5)
    store, faults = prepare(
        tmp_path / "tree", tmp_path / "store", TASK, CaseFolders(), SETTINGS, workers=1, skip_invalid=True
    )
    assert sorted(store.records) == ["p1", "p3"]
    assert [(f.case, "ctp.nii.gz has an unknown unit of length" in f.message) for f in faults] == [("p2", True)]


# ---------------------------------------------------------------------------------------------------------------- axes


@pytest.mark.parametrize("frames", [(), (9,)], ids=["3D", "4D"])
def test_axes_in_the_order_z_y_x_are_told_as_that(tmp_path: Path, frames: tuple[int, ...]) -> None:
    turned_round = np.zeros((*frames, 10, 90, 80), np.float32)
    path = save(tmp_path / "a.nii.gz", turned_round, np.diag([2.5, 2.5, 8.0, 1.0]))
    order = "t, z, y, x" if frames else "z, y, x"
    with pytest.raises(DataFault, match=rf"a\.nii\.gz has its axes in the order {order}: .* transpose"):
        read_volume(path, 4 if frames else 3, 1.0)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((80, 90, 10), (2.5, 2.5, 8.0)), ((80, 90, 2), (2.5, 2.5, 10.0)), ((180, 220, 180), (1.0, 1.0, 1.0))],
)
def test_axes_in_the_order_of_the_header_are_read(
    tmp_path: Path, shape: tuple[int, int, int], sizes: tuple[float, float, float]
) -> None:
    read_volume(save(tmp_path / "a.nii.gz", np.zeros(shape, np.uint8), np.diag([*sizes, 1.0])))


# ------------------------------------------------------------------------------------------------------------- volumes


def _case(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A patient whose files' affines are changed."""
    files = trees.case_folder(root, "p1")
    trees.write_case(files, trees.patient(1), TIMED)
    for path in files.values():
        image = nib.Nifti1Image.from_filename(path)
        moved = nib.Nifti1Image(np.asarray(image.dataobj), None, image.header)
        moved.set_sform(change(image.affine), 1)
        moved.set_qform(change(image.affine), 0)
        nib.save(moved, path)
    return root


@pytest.mark.parametrize("degrees", [0.0, 20.0, -30.0])
def test_a_tilted_gantry_makes_no_volume_larger(tmp_path: Path, degrees: float) -> None:
    """Shifting slices against one another changes no volume: only the determinant says so."""
    root = _case(tmp_path / "tree", lambda affine: tilted(affine, degrees))
    (case,) = CaseFolders().cases(root, TASK.roles)
    facts = inspect_case(case, TASK, SETTINGS).facts
    true_ml = trees.patient(1)["lesion"].sum() * np.prod(trees.SPACING) / 1000
    assert facts["lesion"]["ml"] == pytest.approx(true_ml, rel=1e-5)
    prepared = prepare_case(case, TASK, SETTINGS)
    assert prepared.lesion is not None
    assert prepared.lesion.sum() * prepared.geometry.voxel_ml == pytest.approx(true_ml, rel=0.05)
    assert prepared.geometry.slice_distance == pytest.approx(trees.SPACING[2], rel=1e-5)
    assert prepared.geometry.forms is not None
    assert prepared.geometry.forms.codes == (0, 1)


def test_the_store_keeps_the_forms(tmp_path: Path) -> None:
    root = _case(tmp_path / "tree", lambda affine: affine)
    store, _ = prepare(root, tmp_path / "store", TASK, CaseFolders(), SETTINGS, workers=1)
    forms = store.records["p1"].geometry.forms
    assert forms is not None
    assert forms.codes == (0, 1)
    np.testing.assert_allclose(forms.sform, trees.affine_of(root / "p1/ctp.nii.gz"), atol=1e-5)


def test_a_grid_that_only_fits_turned_round_is_told(tmp_path: Path) -> None:
    one = read_volume(save(tmp_path / "ctp.nii.gz", VALUES))
    other = read_volume(save(tmp_path / "adc.nii.gz", VALUES.T))
    with pytest.raises(DataFault, match=re.escape("adc.nii.gz has 4 × 5 × 6 voxels, ctp.nii.gz 6 × 5 × 4 (its axes")):
        require_same_grid(other, one)
