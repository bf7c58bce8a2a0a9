"""Reading one file: what is accepted, what is refused, and that refusals name the file."""

import gzip
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.volumes import Volume, read_volume, require_same_grid

from .files import AFFINE, save

SHAPE = (6, 5, 4)
VALUES = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
SERIES = np.random.default_rng(1).normal(size=(*SHAPE, 9)).astype(np.float32)


def _patched(offset: int, content: bytes) -> bytes:
    """A NIfTI file with other bytes in its header."""
    raw = bytearray(nib.Nifti1Image(VALUES, AFFINE).to_bytes())
    raw[offset : offset + len(content)] = content
    return gzip.compress(bytes(raw))


def _random_gz() -> bytes:
    return gzip.compress(np.random.default_rng(2).bytes(4000))


def _truncated_gz() -> bytes:
    whole = gzip.compress(nib.Nifti1Image(VALUES, AFFINE).to_bytes())
    return whole[: len(whole) // 2]


def _rgb() -> bytes:
    colours = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    return gzip.compress(nib.Nifti1Image(colours, AFFINE).to_bytes())


@pytest.mark.parametrize("order", ["RAS", "LAS", "LPS", "SPR"])
def test_voxels_come_in_ras_order_with_the_files_own_affine_beside(tmp_path: Path, order: str) -> None:
    image = nib.Nifti1Image(VALUES, np.diag([2.0, 3.0, 4.0, 1.0]))
    turned = image.as_reoriented(nib.orientations.axcodes2ornt("RAS")).as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(order))
        )
    )
    nib.save(turned, tmp_path / "a.nii.gz")
    read = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read.values, VALUES)
    np.testing.assert_allclose(read.affine, image.affine)
    np.testing.assert_allclose(read.file_affine, turned.affine)
    assert nib.aff2axcodes(read.file_affine) == tuple(order)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_plain_and_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", VALUES, np.eye(4))
    np.testing.assert_array_equal(read_volume(path).values, VALUES)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"nowhere\.nii\.gz is missing"):
        read_volume(tmp_path / "nowhere.nii.gz")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"this is no image", id="text"),
        pytest.param(_random_gz(), id="random-gz"),
        pytest.param(_truncated_gz(), id="truncated-gz"),
        pytest.param(_patched(70, np.int16(9999).tobytes()), id="unknown-data-type"),
        pytest.param(_patched(40, np.int16(9).tobytes()), id="nine-dimensions"),
        pytest.param(_patched(42, np.int16([30000] * 3).tobytes()), id="absurd-dimensions"),
        pytest.param(_patched(42, np.int16(-3).tobytes()), id="negative-dimension"),
        pytest.param(_rgb(), id="colours"),
    ],
)
def test_unreadable_files_are_faults_that_name_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(content)
    with pytest.raises(DataFault, match=f"{re.escape(str(path))} cannot be read as NIfTI"):
        read_volume(path)


@pytest.mark.parametrize("name", ["broken.nii.gz", "broken.nii"])
def test_a_header_that_asks_for_more_than_the_file_can_hold_is_refused_unread(tmp_path: Path, name: str) -> None:
    content = _patched(42, np.int16([30000] * 3).tobytes())
    path = tmp_path / name
    path.write_bytes(content if name.endswith(".gz") else gzip.decompress(content))
    said = rf"{name} cannot be read as NIfTI .*asks for \d{{14,}} bytes.* at most \d{{3,7}}\W"
    with pytest.raises(DataFault, match=said):
        read_volume(path)


@pytest.mark.parametrize(
    ("shape", "dimensions", "found"),
    [
        (SHAPE, 4, "6 × 5 × 4; expected a time series"),
        ((*SHAPE, 9), 3, "6 × 5 × 4 × 9; expected one volume"),
        ((6, 5), 3, "6 × 5; expected one volume"),
        ((*SHAPE, 2, 9), 4, "6 × 5 × 4 × 2 × 9; expected a time series"),
    ],
)
def test_other_dimensions_are_refused(tmp_path: Path, shape: tuple[int, ...], dimensions: int, found: str) -> None:
    path = save(tmp_path / "a.nii.gz", np.zeros(shape, np.float32))
    with pytest.raises(DataFault, match=re.escape(found)):
        read_volume(path, dimensions, frame_interval=1.0)


def test_singleton_axes_at_the_end_are_dropped(tmp_path: Path) -> None:
    fifth = save(tmp_path / "a.nii.gz", SERIES[..., None])
    np.testing.assert_array_equal(read_volume(fifth, 4, 1.0).values, SERIES[::-1])
    fourth = save(tmp_path / "b.nii.gz", VALUES[..., None])
    np.testing.assert_array_equal(read_volume(fourth).values, VALUES[::-1])
    slice_ = save(tmp_path / "c.nii.gz", VALUES[:, :, :1, None])
    np.testing.assert_array_equal(read_volume(slice_).values, VALUES[::-1, :, :1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_voxels_are_counted_and_refused(tmp_path: Path, value: float) -> None:
    values = VALUES.copy()
    values[0, :3, 0] = value
    path = save(tmp_path / "a.nii.gz", values)
    with pytest.raises(DataFault, match=r"a\.nii\.gz has 3 non-finite voxels of 120"):
        read_volume(path)


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VALUES, None)
    image.header.set_sform(np.diag([2.0, 2.0, 0.0, 1.0]), code=1)
    nib.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(DataFault, match="singular affine"):
        read_volume(tmp_path / "a.nii.gz")


def test_masks_stored_as_65535_with_a_slope_are_found_above_one_half(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.uint16)
    mask[2:4, 1:3, 1] = 65535
    image = nib.Nifti1Image(mask, np.eye(4))
    image.header.set_slope_inter(1 / 65535, 0)
    nib.save(image, tmp_path / "mask.nii.gz")
    values = read_volume(tmp_path / "mask.nii.gz").values
    np.testing.assert_array_equal(values > 0.5, mask > 0)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    stored = np.arange(120, dtype=np.int16).reshape(SHAPE)
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, tmp_path / "ct.nii.gz")
    assert read_volume(tmp_path / "ct.nii.gz").values.dtype == np.float32
    np.testing.assert_array_equal(read_volume(tmp_path / "ct.nii.gz").values, stored * 2.0 - 1024)


def test_the_digest_tells_content_apart_and_nothing_else(tmp_path: Path) -> None:
    changed = VALUES.copy()
    changed[5, 4, 3] = np.nextafter(changed[5, 4, 3], np.float32(9))
    stored = {"a.nii.gz": VALUES, "b.nii": VALUES, "c.nii.gz": VALUES.astype(np.float64), "d.nii.gz": changed}
    digests = [read_volume(save(tmp_path / name, values)).digest for name, values in stored.items()]
    digests.append(read_volume(save(tmp_path / "e.nii.gz", VALUES, np.eye(4))).digest)
    assert digests[0] == digests[1] == digests[2] == digests[4] != digests[3]
    assert digests[0] is not None


def test_a_constant_volume_has_no_digest(tmp_path: Path) -> None:
    """Two patients without lesion are not one."""
    assert read_volume(save(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.uint8))).digest is None


# ------------------------------------------------------------------------------------------------------- frame times


def _series(tmp_path: Path, unit: str | None = None, interval: float = 1.0, sidecar: object = None) -> Path:
    image = nib.Nifti1Image(SERIES, AFFINE)
    if unit:
        image.header.set_xyzt_units("mm", unit)
        image.header.set_zooms((2, 2, 5, interval))
    nib.save(image, tmp_path / "ctp.nii.gz")
    if sidecar is not None:
        (tmp_path / "ctp.json").write_text(json.dumps(sidecar))
    return tmp_path / "ctp.nii.gz"


IRREGULAR = [0.0, 1.0, 2.5, 4.0, 5.0, 6.5, 9.0, 12.0, 18.0]


@pytest.mark.parametrize(
    ("unit", "interval", "sidecar", "argument", "times"),
    [
        pytest.param("sec", 1.5, None, None, np.arange(9) * 1.5, id="header-seconds"),
        pytest.param("msec", 1500, None, None, np.arange(9) * 1.5, id="header-milliseconds"),
        pytest.param("usec", 2e6, None, None, np.arange(9) * 2.0, id="header-microseconds"),
        pytest.param(None, 1, None, 2.5, np.arange(9) * 2.5, id="argument"),
        pytest.param("sec", 1.5, None, 2.5, np.arange(9) * 2.5, id="argument-before-header"),
        pytest.param("sec", 1.5, {"FrameTimesStart": IRREGULAR}, 2.5, IRREGULAR, id="sidecar-before-all"),
        pytest.param("sec", 1.5, {"Other": 1}, None, np.arange(9) * 1.5, id="sidecar-silent"),
        pytest.param("sec", 1.5, {"VolumeTiming": IRREGULAR}, None, IRREGULAR, id="bids-volume-timing"),
        pytest.param("sec", 1.5, {"RepetitionTime": 2.0}, None, np.arange(9) * 2.0, id="bids-repetition-time"),
        pytest.param("sec", 1.5, {"RepetitionTime": IRREGULAR}, None, IRREGULAR, id="a-time-for-each-frame"),
        pytest.param(None, 1, {"VolumeTiming": IRREGULAR, "RepetitionTime": 2.0}, None, IRREGULAR, id="exact-first"),
    ],
)
def test_frame_times_come_from_the_best_source(
    tmp_path: Path, unit: str | None, interval: float, sidecar: object, argument: float | None, times: list[float]
) -> None:
    read = read_volume(_series(tmp_path, unit, interval, sidecar), 4, argument)
    np.testing.assert_allclose(read.times, times)


@pytest.mark.parametrize(
    ("unit", "argument", "interval"), [("sec", None, 1.5), ("sec", 2.5, 2.5), (None, None, 0.7), (None, 2.5, 2.5)]
)
def test_what_the_authors_document_comes_last(
    tmp_path: Path, unit: str | None, argument: float | None, interval: float
) -> None:
    read = read_volume(_series(tmp_path, unit, 1.5), 4, argument, documented_interval=0.7)
    np.testing.assert_allclose(read.times, np.arange(9) * interval)


def test_the_header_times_its_fourth_axis_only(tmp_path: Path) -> None:
    image = nib.Nifti1Image(SERIES[:, :, :, None], AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "ctp.nii.gz")
    with pytest.raises(DataFault, match="does not say when"):
        read_volume(tmp_path / "ctp.nii.gz", 4)
    np.testing.assert_array_equal(read_volume(tmp_path / "ctp.nii.gz", 4, 2.0).times, np.arange(9) * 2.0)


@pytest.mark.parametrize(("unit", "interval"), [(None, 1.0), ("sec", 0.0), ("hz", 1.0)])
def test_a_series_that_does_not_say_its_times_is_refused(tmp_path: Path, unit: str | None, interval: float) -> None:
    with pytest.raises(DataFault, match=r"when its 9 frames were taken.*give data\.frame_interval"):
        read_volume(_series(tmp_path, unit, interval), 4)


@pytest.mark.parametrize(
    "sidecar",
    [
        pytest.param({"FrameTimesStart": IRREGULAR[:-1]}, id="one-short"),
        pytest.param({"FrameTimesStart": [*IRREGULAR, 20.0]}, id="one-long"),
        pytest.param({"FrameTimesStart": IRREGULAR[::-1]}, id="backwards"),
        pytest.param({"FrameTimesStart": [*IRREGULAR[:-1], None]}, id="not-a-number"),
        pytest.param({"FrameTimesStart": [*IRREGULAR[:-1], "late"]}, id="text"),
        pytest.param({"RepetitionTime": 0}, id="no-time-between-frames"),
        pytest.param([1, 2, 3], id="no-object"),
    ],
)
def test_a_sidecar_that_does_not_fit_is_refused_and_named(tmp_path: Path, sidecar: object) -> None:
    with pytest.raises(DataFault, match=r"ctp\.json"):
        read_volume(_series(tmp_path, "sec", 1.5, sidecar), 4)


def test_a_volume_has_no_frame_times(tmp_path: Path) -> None:
    assert read_volume(save(tmp_path / "a.nii.gz", VALUES)).times is None


# ------------------------------------------------------------------------------------------------------------- grids


def _read(path: Path, values: np.ndarray, affine: np.ndarray) -> Volume:
    return read_volume(save(path, values, affine))


def test_another_shape_is_another_grid(tmp_path: Path) -> None:
    reference = _read(tmp_path / "ctp.nii.gz", VALUES, AFFINE)
    other = _read(tmp_path / "dwi.nii.gz", VALUES[:, :-1], AFFINE)
    with pytest.raises(DataFault, match=r"dwi\.nii\.gz has 6 × 4 × 4 voxels, ctp\.nii\.gz 6 × 5 × 4"):
        require_same_grid(other, reference)


@pytest.mark.parametrize(("row", "column"), [(0, 3), (2, 3), (1, 1)], ids=["shift-x", "shift-z", "stretch-y"])
@pytest.mark.parametrize(("amount", "same"), [(1.6e-5, True), (2e-3, False), (5.0, False)])
def test_float_rounding_is_accepted_and_a_shift_refused(
    tmp_path: Path, row: int, column: int, amount: float, same: bool
) -> None:
    moved = AFFINE.copy()
    moved[row, column] += amount
    reference = _read(tmp_path / "ctp.nii.gz", VALUES, AFFINE)
    other = _read(tmp_path / "dwi.nii.gz", VALUES, moved)
    if same:
        require_same_grid(other, reference)
    else:
        with pytest.raises(DataFault, match=r"dwi\.nii\.gz and ctp\.nii\.gz .* mm apart"):
            require_same_grid(other, reference)


@pytest.mark.parametrize("order", ["RAS", "LPS", "SAR"])
def test_one_world_grid_stored_in_another_order_is_the_same_grid(tmp_path: Path, order: str) -> None:
    image = nib.Nifti1Image(VALUES, AFFINE)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(AFFINE), nib.orientations.axcodes2ornt(tuple(order))
    )
    turned = image.as_reoriented(turn)
    reference = _read(tmp_path / "ctp.nii.gz", VALUES, AFFINE)
    other = _read(tmp_path / "dwi.nii.gz", np.asarray(turned.dataobj), turned.affine)
    require_same_grid(other, reference)
    np.testing.assert_array_equal(other.values, reference.values)
