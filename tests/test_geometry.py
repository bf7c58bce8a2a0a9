"""Grids: to the prepared slices and back to the file, for every way a scanner may store a head."""

import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ctp_ldm.geometry import Geometry, slab_count, to_ras

ORDERS = [
    "".join(letters) for axes in itertools.permutations(("RL", "AP", "SI")) for letters in itertools.product(*axes)
]
TILT = (7.0, -5.0, 9.0)
BLOB_MM = 14.0


def _affine(order: str, ras_spacing: tuple[float, float, float], tilt: tuple[float, float, float] = TILT) -> np.ndarray:
    """A file's affine whose axes run along `order`; spacings are given for left–right, back–front and feet–head."""
    axes = np.zeros((3, 3))
    for column, letter in enumerate(order):
        row = next(i for i, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        axes[row, column] = ras_spacing[row] * (1 if letter in "RAS" else -1)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ axes
    affine[:3, 3] = 12.5, -31.0, 4.0
    return affine


def _file_shape(order: str, ras_shape: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(ras_shape[next(i for i, pair in enumerate(("RL", "AP", "SI")) if c in pair)] for c in order)


def _world(affine: np.ndarray, *indices: np.ndarray) -> np.ndarray:
    """World coordinates (…, 3) of all voxels with these indices along the three axes."""
    grid = np.stack(np.meshgrid(*indices, indexing="ij"), axis=-1)
    return grid @ affine[:3, :3].T + affine[:3, 3]


def _blob(world: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.exp(-((world - centre) ** 2).sum(axis=-1) / (2 * BLOB_MM**2))


def _centre_of_mass(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    world = _world(affine, *map(np.arange, values.shape))
    return (values[..., None] * world).sum(axis=(0, 1, 2)) / values.sum()


def test_all_orders_are_tried() -> None:
    assert len(set(ORDERS)) == 48
    assert {"RAS", "LAS", "LPS"} <= set(ORDERS)
    assert all("".join(nib.aff2axcodes(_affine(order, (1, 2, 3)))) == order for order in ORDERS)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("frames", [(), (3,)], ids=["3D", "4D"])
def test_ras_is_nibabels_closest_canonical(order: str, frames: tuple[int, ...]) -> None:
    affine = _affine(order, (1.0, 1.2, 4.0))
    values = np.random.default_rng(0).random((*_file_shape(order, (5, 6, 4)), *frames), dtype=np.float32)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    moved, moved_affine = to_ras(values, affine)
    np.testing.assert_array_equal(moved, canonical.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(moved_affine, canonical.affine, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_there_and_back_is_exact_where_spacing_is_unchanged(order: str) -> None:
    affine = _affine(order, (1.5, 1.5, 6.0))
    values = np.random.default_rng(1).normal(size=_file_shape(order, (17, 22, 5))).astype(np.float32)
    ras, _ = to_ras(values, affine)
    geometry = Geometry.centred(affine, np.ones(ras.shape, bool), 1.5, (20, 24))
    slices = geometry.to_grid(ras)
    assert slices.shape == (5, 20, 24)
    np.testing.assert_array_equal(geometry.from_grid(slices), values)


@settings(max_examples=40, deadline=None)
@given(
    order=st.sampled_from(ORDERS),
    spacing=st.floats(0.3, 6.0),
    thickness=st.floats(0.5, 12.0),
    tilt=st.tuples(*[st.floats(-12, 12)] * 3),
    low=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_there_and_back_is_exact_inside_a_cropping_grid(
    order: str, spacing: float, thickness: float, tilt: tuple[float, float, float], low: tuple[int, int]
) -> None:
    affine = _affine(order, (spacing, spacing, thickness), tilt)
    values = np.random.default_rng(2).normal(size=_file_shape(order, (16, 18, 3))).astype(np.float32)
    ras, _ = to_ras(values, affine)
    brain = np.zeros(ras.shape, bool)
    brain[low[0] : low[0] + 9, low[1] : low[1] + 11] = True
    geometry = Geometry.centred(affine, brain, spacing, (10, 12))
    back, _ = to_ras(geometry.from_grid(geometry.to_grid(ras), fill=-7.0), affine)
    np.testing.assert_array_equal(back[brain], ras[brain])
    assert (back == -7.0).sum() >= ras.size - 3 * 10 * 12


@pytest.mark.parametrize("order", ["RAS", "LAS", "LPS", "PSR", "ILA"])
@pytest.mark.parametrize("spacing", [1.0, 2.0, 3.1, 4.5])
def test_a_landmark_keeps_its_place_in_the_world(order: str, spacing: float) -> None:
    affine = _affine(order, (2.0, 3.0, 5.0))
    shape = _file_shape(order, (60, 48, 24))
    centre = affine[:3, :3] @ (np.array(shape) * [0.48, 0.52, 0.5]) + affine[:3, 3]
    values = _blob(_world(affine, *map(np.arange, shape)), centre).astype(np.float32)
    ras, ras_affine = to_ras(values, affine)
    size = (int(130 / spacing), int(160 / spacing))
    geometry = Geometry.centred(affine, np.ones(ras.shape, bool) & (ras > 0.02), spacing, size)
    slices = geometry.to_grid(ras)

    # Where the documented origin and spacing say the grid's voxels are, the field has its analytic values.
    rows, columns = (geometry.origin[i] + np.arange(size[i]) * spacing / (2.0, 3.0)[i] for i in range(2))
    inside = ((rows > 0) & (rows < 59))[:, None, None] & ((columns > 0) & (columns < 47))[None, :, None]
    expected = _blob(_world(ras_affine, rows, columns, np.arange(24)), centre)
    difference = (np.moveaxis(slices, 0, 2) - expected)[np.broadcast_to(inside, expected.shape)]
    assert np.abs(difference).max() < 0.02

    back = geometry.from_grid(slices)
    assert back.shape == shape
    assert np.abs(back - values).max() < 0.05
    np.testing.assert_allclose(_centre_of_mass(back, affine), centre, atol=0.05)


def test_coarse_grids_average_what_they_cannot_show() -> None:
    """Stripes finer than the grid must vanish, not turn into broad ones."""
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    stripes = np.broadcast_to((np.arange(96) % 3 == 0)[:, None, None], (96, 96, 2)).astype(np.float32)
    slices = Geometry.centred(affine, np.ones(stripes.shape, bool), 4.0, (24, 24)).to_grid(stripes)
    np.testing.assert_allclose(slices[0], stripes[..., 0].reshape(24, 4, 24, 4).mean(axis=(1, 3)), atol=1e-6)
    assert np.ptp(slices) <= 1 / 4 + 1e-6  # of 4 voxels 1 or 2 are set


def test_outside_the_field_of_view_lies_the_fill() -> None:
    affine = _affine("LPS", (2.0, 2.0, 5.0))
    geometry = Geometry.centred(affine, np.ones((10, 12, 3), bool), 1.0, (40, 50))
    slices = geometry.to_grid(np.full((10, 12, 3), 5.0), fill=-1.0)
    assert set(np.unique(slices)) == {-1.0, 5.0}
    # The field of view is 20 × 24 mm, from edge to edge of its voxels.
    assert (slices == 5.0).sum() == 3 * 20 * 24
    assert (slices[:, 10:30, 13:37] == 5.0).all()


def test_the_grid_lies_around_the_middle_of_the_brain() -> None:
    brain = np.zeros((40, 50, 4), bool)
    brain[3:14, 30:45, 1:3] = True
    slices = Geometry.centred(np.diag([2.0, 2.0, 5.0, 1.0]), brain, 1.0, (64, 64)).mask_to_grid(brain)
    for axis in (1, 2):
        occupied = np.flatnonzero(slices.any(axis=tuple(a for a in range(3) if a != axis)))
        assert (occupied[0] + occupied[-1]) / 2 == pytest.approx(31.5, abs=0.5)


@pytest.mark.parametrize("spacing", [1.0, 2.0, 3.3])
def test_masks_keep_their_volume(spacing: float) -> None:
    affine = _affine("LAS", (1.7, 2.2, 5.0))
    x, y, z = np.ogrid[-40:40, -32:32, -6:6]
    ball = (x * 1.7) ** 2 + (y * 2.2) ** 2 + (z * 5.0) ** 2 < 50**2
    geometry = Geometry.centred(affine, ball, spacing, (160, 160))
    slices = geometry.mask_to_grid(ball)
    assert slices.dtype == bool
    assert slices.sum() * geometry.voxel_ml == pytest.approx(ball.sum() * 1.7 * 2.2 * 5.0 / 1000, rel=0.02)


def test_sizes_are_told_in_ras_order() -> None:
    geometry = Geometry.centred(_affine("SRA", (1.0, 2.0, 5.0)), np.ones((20, 30, 6), bool), 1.5, (90, 90))
    assert geometry.shape == (6, 20, 30)
    assert geometry.ras_shape == (20, 30, 6)
    assert geometry.voxel_sizes == pytest.approx((1.0, 2.0, 5.0))
    assert geometry.voxel_ml == pytest.approx(1.5 * 1.5 * 5.0 / 1000)


@pytest.mark.parametrize("order", ["RAS", "LPS"])
def test_a_shear_makes_voxels_no_larger(order: str) -> None:
    affine = _affine(order, (1.0, 2.0, 5.0), tilt=(0.0, 0.0, 0.0))
    affine[1, 2] = 5.0 * np.tan(np.deg2rad(25))
    geometry = Geometry.centred(affine, np.ones((20, 30, 6), bool), 1.5, (90, 90))
    assert geometry.voxel_sizes[2] > 5.5
    assert geometry.slice_distance == pytest.approx(5.0)
    assert geometry.voxel_ml == pytest.approx(1.5 * 1.5 * 5.0 / 1000)


@pytest.mark.parametrize(("shape", "side"), [((101, 50, 2), "left–right"), ((50, 121, 2), "back–front")])
def test_a_brain_larger_than_the_grid_is_refused(shape: tuple[int, int, int], side: str) -> None:
    with pytest.raises(ValueError, match=side) as error:
        Geometry.centred(np.diag([2.0, 2.0, 5.0, 1.0]), np.ones(shape, bool), 2.0, (100, 120))
    assert f"{max(shape) * 2} mm wide" in str(error.value)
    assert "enlarge size or spacing" in str(error.value)


def test_a_brain_as_large_as_the_grid_fits() -> None:
    volume = np.random.default_rng(3).random((100, 120, 2), dtype=np.float32)
    geometry = Geometry.centred(np.diag([2.0, 2.0, 5.0, 1.0]), np.ones(volume.shape, bool), 2.0, (100, 120))
    np.testing.assert_array_equal(geometry.to_grid(volume), np.moveaxis(volume, 2, 0))


def test_an_empty_brain_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Geometry.centred(np.eye(4), np.zeros((20, 20, 2), bool), 1.0, (20, 20))


@pytest.mark.parametrize("order", ["RAS", "LPS", "SLA"])
def test_plain_data_survives_json(order: str) -> None:
    brain = np.ones((20, 30, 9), bool)
    geometry = Geometry.centred(_affine(order, (0.43, 0.43, 1.3)), brain, 1.0, (32, 33), thickness=5.0)
    assert geometry.slices == 2
    assert Geometry.from_plain(json.loads(json.dumps(geometry.to_plain()))) == geometry


# --------------------------------------------------------------------------------------------------------------- slabs


@pytest.mark.parametrize(
    ("slices", "distance", "thickness", "slabs"),
    [
        (48, 1.25, 5.0, 12),
        (47, 1.25, 5.0, 12),
        (320, 0.5, 5.0, 32),
        (73, 2.0, 5.0, 29),
        (7, 1.25, 5.0, 2),
        (2, 1.0, 5.0, 1),
        (32, 4.0, 5.0, 32),
        (32, 3.9, 5.0, 25),
        (32, 4.0, 4.0, 32),
        (12, 5.0, 5.0, 12),
        (12, 8.0, 5.0, 12),
        (100, 0.8, 6.5, 12),
        (100, 0.8, None, 100),
    ],
)
def test_thin_slices_become_slabs_of_the_thickness_next_to_the_wanted(
    slices: int, distance: float, thickness: float | None, slabs: int
) -> None:
    assert slab_count(slices, distance, thickness) == slabs


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.floats(0.4, 12.0), st.floats(1.0, 12.0))
def test_slices_are_never_made_thinner_and_no_other_number_of_slabs_comes_closer(
    slices: int, distance: float, thickness: float
) -> None:
    slabs = slab_count(slices, distance, thickness)
    assert 1 <= slabs <= slices
    if distance >= 0.7992 * thickness:
        assert slabs == slices
        return
    off = [abs(np.log(slices * distance / n / thickness)) for n in range(1, slices + 1)]
    assert off[slabs - 1] == pytest.approx(min(off), abs=1e-9)


def _slabs(order: str, distance: float, slices: int, thickness: float | None, shear: float = 0.0) -> Geometry:
    affine = _affine(order, (2.0, 2.0, distance), tilt=(0.0, 0.0, 0.0))
    if shear:
        affine[1, 2] = distance * np.tan(np.deg2rad(shear))
    brain = np.ones((20, 24, slices), bool)
    return Geometry.centred(affine, brain, 2.0, (20, 24), thickness=thickness)


@pytest.mark.parametrize("order", ["RAS", "LPS", "SLA"])
@pytest.mark.parametrize("shear", [0.0, 20.0])
def test_every_slice_counts_once_in_the_slabs(order: str, shear: float) -> None:
    geometry = _slabs(order, 1.25, 46, 5.0, shear if order != "SLA" else 0.0)
    assert geometry.slices == 12  # 57.5 mm
    assert geometry.slice_distance == pytest.approx(57.5 / 12)
    assert geometry.voxel_ml * 12 * 20 * 24 == pytest.approx(46 * 20 * 24 * 1.25 * 4 / 1000)
    values = np.random.default_rng(0).normal(size=(20, 24, 46)).astype(np.float32)
    slabs = geometry.to_grid(values)
    assert slabs.shape == (12, 20, 24)
    np.testing.assert_allclose(slabs.mean(axis=0), values.mean(axis=2), atol=1e-5)


def test_slabs_of_whole_slices_are_their_means() -> None:
    geometry = _slabs("RAS", 1.25, 48, 5.0)
    values = np.random.default_rng(0).normal(size=(20, 24, 48)).astype(np.float32)
    expected = np.moveaxis(values.reshape(20, 24, 12, 4).mean(axis=3), 2, 0)
    np.testing.assert_allclose(geometry.to_grid(values), expected, atol=1e-6)


@pytest.mark.parametrize("order", ["RAS", "LPS", "SLA"])
@pytest.mark.parametrize("slices", [48, 46])
def test_slabs_come_back_on_every_slice_linear_between_their_middles(order: str, slices: int) -> None:
    geometry = _slabs(order, 1.25, slices, 5.0)
    values = np.random.default_rng(0).normal(size=(12, 20, 24)).astype(np.float32)
    back, _ = to_ras(geometry.from_grid(values), np.asarray(geometry.affine))
    assert back.shape == (20, 24, slices)
    middles = (np.arange(12) + 0.5) * slices / 12 - 0.5
    expected = np.apply_along_axis(lambda v: np.interp(np.arange(slices), middles, v), 0, values)
    np.testing.assert_allclose(back, np.moveaxis(expected, 0, 2), atol=1e-5)


@pytest.mark.parametrize("thickness", [None, 5.0])
@pytest.mark.parametrize("spacing", [1.0, 2.0, 3.3])
@pytest.mark.parametrize("background", [0.0, -1024.0, -8192.0, np.nan])
def test_neither_way_lets_the_background_in(thickness: float | None, spacing: float, background: float) -> None:
    """A brain of 30 HU is 30 HU up to its rim, on the grid and back in the file; outside it is the fill."""
    affine = _affine("LPS", (2.0, 2.0, 1.25))
    x, y, z = np.ogrid[-20:20, -24:24, -12:12]
    brain = (x / 16) ** 2 + (y / 20) ** 2 + (z / 14) ** 2 < 1
    geometry = Geometry.centred(affine, brain, spacing, (96, 112), thickness=thickness)
    slices = geometry.to_grid(np.where(brain, 30.0, background), brain, fill=np.nan)
    inside = geometry.mask_to_grid(brain)
    np.testing.assert_allclose(slices[inside], 30.0, rtol=1e-5)
    back, _ = to_ras(geometry.from_grid(np.where(inside, slices, background), inside, fill=-1.0), affine)
    drawn = back != -1.0
    np.testing.assert_allclose(back[drawn], 30.0, rtol=1e-5)
    assert 2 * (drawn & brain).sum() / (drawn.sum() + brain.sum()) > 0.93
