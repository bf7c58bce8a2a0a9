"""Any header that a NIfTI file can have: refused with what is wrong in it, or read, kept and given back as it was."""

from itertools import permutations, product
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.volumes import Volume, read_volume
from ctp_ldm.forms import MM, Forms
from ctp_ldm.geometry import Geometry, affine_ml

SHAPE = (4, 5, 3)
UNITS = {"unknown": 0, "meter": 1, "mm": 2, "micron": 3}
AXES = [
    np.eye(3)[:, list(order)] * signs for order in permutations(range(3)) for signs in product((-1.0, 1.0), repeat=3)
]
"""All 48 ways in which a file's axes can run along those of the world."""


class Header(NamedTuple):
    """What a file says. affine: 4 × 4, voxel → mm, of the sform; shift: mm by which the qform is elsewhere."""

    affine: np.ndarray
    codes: tuple[int, int]
    unit: str
    shift: float
    mark: tuple[int, ...]


@st.composite
def headers(draw: st.DrawFn, tilts: bool = True, same: bool = False) -> Header:
    """Any axes, zooms, oblique rotation, tilt of the gantry, codes and unit; the forms agree, or are 2 voxels apart."""
    zooms = [draw(st.floats(0.4, 8.0))] * 3 if same else draw(st.lists(st.floats(0.4, 8.0), min_size=3, max_size=3))
    columns = draw(st.sampled_from(AXES)) @ np.diag(zooms)
    if tilts and draw(st.booleans()):
        columns[:, 1] += columns[:, 2] * draw(st.floats(-0.4, 0.4)) * zooms[1] / zooms[2]
    turn = draw(st.lists(st.floats(-30, 30), min_size=3, max_size=3)) if draw(st.booleans()) else [0.0, 0.0, 0.0]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ columns
    affine[:3, 3] = draw(st.lists(st.floats(-200, 200), min_size=3, max_size=3))
    return Header(
        affine,
        draw(st.tuples(st.integers(0, 4), st.integers(0, 5))),
        draw(st.sampled_from(sorted(UNITS))),
        draw(st.sampled_from([0.0, 0.0, 2 * max(zooms)])),
        tuple(draw(st.integers(0, n - 1)) for n in SHAPE),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headers")


def _write(path: Path, header: Header) -> nib.Nifti1Header:
    """A file with one marked voxel; what its header holds once it is written."""
    values = np.zeros(SHAPE, np.float32)
    values[header.mark] = 7
    to_unit = np.array([1 / MM[header.unit]] * 3 + [1.0])[:, None]
    shifted = header.affine.copy()
    shifted[2, 3] += header.shift
    image = nib.Nifti1Image(values, None)
    image.set_sform(header.affine * to_unit, header.codes[1])
    image.set_qform(shifted * to_unit, header.codes[0])
    image.header["xyzt_units"] = UNITS[header.unit]
    nib.save(image, path)
    return nib.Nifti1Image.from_filename(path).header


def _expected_fault(header: Header) -> str | None:
    if header.codes == (0, 0):
        return "does not say which way its axes run"
    return "has two forms" if header.shift and min(header.codes) > 0 else None


def _read(path: Path, header: Header) -> Volume | None:
    """The file, or None where it was refused as it should be."""
    said = _expected_fault(header)
    if said is None:
        return read_volume(path)
    with pytest.raises(DataFault, match=rf"{path.name} {said}"):
        read_volume(path)
    return None


@given(header=headers())
@settings(max_examples=200)
def test_a_header_is_refused_by_name_or_its_voxels_stay_where_it_has_them(folder: Path, header: Header) -> None:
    path = folder / "read.nii"
    written = _write(path, header)
    read = _read(path, header)
    if read is None:
        return
    form = written.get_sform() if header.codes[1] > 0 else written.get_qform()
    in_mm = form * np.array([MM[header.unit]] * 3 + [1.0])[:, None]
    np.testing.assert_allclose(read.file_affine, in_mm, rtol=1e-6, atol=1e-6)
    if header.codes[1] > 0:  # a qform holds no tilt
        assert affine_ml(read.file_affine) == pytest.approx(abs(np.linalg.det(header.affine[:3, :3])) / 1000, rel=1e-4)
    assert affine_ml(read.affine) == pytest.approx(affine_ml(read.file_affine), rel=1e-9)
    (place,) = np.argwhere(read.values == 7)
    np.testing.assert_allclose((read.affine @ [*place, 1])[:3], (in_mm @ [*header.mark, 1])[:3], atol=1e-6)
    np.testing.assert_array_equal(nib.orientations.io_orientation(read.affine), [[0, 1], [1, 1], [2, 1]])


@given(header=headers())
@settings(max_examples=100)
def test_what_is_made_from_a_file_says_what_it_says(folder: Path, header: Header) -> None:
    path = folder / "kept.nii"
    written = _write(path, header)
    read = _read(path, header)
    if read is None:
        return
    assert read.forms is not None
    made = nib.Nifti1Image(np.zeros(SHAPE, np.float32), np.eye(4))
    Forms.from_plain(read.forms.to_plain()).apply(made)
    nib.save(made, path)
    again = nib.Nifti1Image.from_filename(path).header
    assert (int(again["qform_code"]), int(again["sform_code"])) == header.codes
    assert again.get_xyzt_units()[0] == ("mm" if header.unit == "unknown" else header.unit)
    np.testing.assert_array_equal(again.get_sform(), written.get_sform())
    kept, size = written.get_qform(), float(np.abs(written.get_qform()).max())
    np.testing.assert_allclose(again.get_qform(), kept, rtol=0, atol=1e-5 * size)  # it is made of a quaternion


@given(header=headers(tilts=False, same=True))
@settings(max_examples=60)
def test_a_marked_voxel_comes_back_to_its_place_in_the_file(folder: Path, header: Header) -> None:
    path = folder / "back.nii"
    _write(path, header)
    read = _read(path, header)
    if read is None:
        return
    spacing = float(nib.affines.voxel_sizes(read.affine)[0])
    brain = np.ones(read.values.shape, bool)
    geometry = Geometry.centred(read.file_affine, brain, spacing, (16, 16), read.forms)
    back = Geometry.from_plain(geometry.to_plain()).from_grid(geometry.to_grid(read.values))
    assert back.shape == SHAPE
    assert [tuple(place) for place in np.argwhere(back > 3.5)] == [header.mark]


@given(code=st.integers(0, 255), codes=st.tuples(st.integers(-1, 9), st.integers(-1, 9)))
@settings(max_examples=150)
def test_every_byte_of_units_and_codes_is_known_or_a_fault_of_the_file(
    folder: Path, code: int, codes: tuple[int, int]
) -> None:
    path = folder / "codes.nii"
    image = nib.Nifti1Image(np.zeros(SHAPE, np.float32), np.diag([-2.0, 2.0, 5.0, 1.0]))
    nib.save(image, path)
    raw = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    header["xyzt_units"] = code
    header["qform_code"], header["sform_code"] = codes
    raw[:348] = header.binaryblock
    path.write_bytes(bytes(raw))
    known = code & 7 in (0, 2) and any(0 < c <= 5 for c in codes)  # as m or µm these voxels are none
    if known:
        forms = read_volume(path).forms
        assert forms is not None
        assert forms.codes == tuple(c if 0 < c <= 5 else 0 for c in codes)
    else:
        with pytest.raises(DataFault, match=path.name):
            read_volume(path)
