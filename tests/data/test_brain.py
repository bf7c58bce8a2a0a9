"""The brain in a CT: on heads whose brain is known, and refusals of what is no head."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from ctp_ldm.data import CTPerfusion
from ctp_ldm.data.brain import ct_brain_mask, foreground_mask
from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.volumes import read_volume
from ctp_ldm.data.window import cut_off_at
from ctp_ldm.geometry import to_ras
from ctp_ldm.phantom.anatomy import build_head
from ctp_ldm.phantom.parallel import shared_atlas
from ctp_ldm.phantom.patient import Settings, draw_patient
from ctp_ldm.phantom.simulate import draw_streams

from .conftest import CASES, MIX, SEED
from .files import dice, isles_file
from .heads import AIR, SKULL, VENTRICLE, head

SPACINGS = [(0.5, 0.5, 5.0), (1.0, 1.0, 2.5), (2.0, 2.0, 6.0), (1.5, 2.5, 5.0), (4.0, 4.0, 8.0), (6.0, 6.0, 8.0)]
every_spacing = pytest.mark.parametrize("spacing", SPACINGS, ids=lambda s: "x".join(map(str, s)))


@every_spacing
def test_the_brain_of_a_whole_head_is_found(spacing: tuple[float, float, float]) -> None:
    hu, brain, sizes = head(spacing, slab_mm=25.0 if spacing[0] < 1 else 110.0)
    mask = ct_brain_mask(hu, sizes)
    assert mask.dtype == bool
    assert dice(mask, brain) > 0.93
    assert (mask & (hu > 300)).sum() <= 0.001 * mask.sum()
    # Nothing of scalp or table: all lies within one voxel of the true brain.
    assert not (mask & ~ndimage.binary_dilation(brain, iterations=2)).any()


def test_ventricles_belong_to_the_brain() -> None:
    hu, brain, sizes = head((2.0, 2.0, 5.0), noise=0.0)
    ventricles = brain & (hu == VENTRICLE)
    assert ventricles.sum() * 0.02 > 10  # mL
    assert ct_brain_mask(hu, sizes)[ventricles].all()


@every_spacing
@pytest.mark.parametrize("background", [0.0, -1000.0, -1024.0, -3024.0, -8192.0])
def test_a_stripped_brain_is_taken_as_it_is(spacing: tuple[float, float, float], background: float) -> None:
    hu, brain, sizes = head(spacing, slab_mm=25.0 if spacing[0] < 1 else 110.0)
    stripped = np.where(brain, hu, np.float32(background))
    assert dice(ct_brain_mask(stripped, sizes), brain) > 0.999


@pytest.mark.parametrize("background", [-1000.0, -1024.0, -3024.0, -8192.0])
def test_a_stripped_brain_that_was_resampled_does_not_grow_by_its_rim(background: float) -> None:
    """Linear interpolation mixes brain and background; nothing of the brain is below -100 HU."""
    hu, brain, sizes = head((2.0, 2.0, 5.0))
    moved = ndimage.shift(np.where(brain, hu, np.float32(background)), (0.5, 0.5, 0), order=1, mode="nearest")
    mask = ct_brain_mask(moved, sizes)
    assert moved[mask].min() > -100
    assert 0.93 < mask.sum() / brain.sum() <= 1.0


WINDOWS = [(0.0, 80.0), (-20.0, 100.0), (0.0, 120.0), (-100.0, 149.0)]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("rounded", [False, True])
def test_a_head_exported_through_a_window_is_no_stripped_brain(window: tuple[float, float], rounded: bool) -> None:
    hu, _, sizes = head((2.0, 2.0, 5.0))
    shown = hu.clip(*window)
    with pytest.raises(DataFault, match=rf"everything above {window[1]:.4g} HU is cut off .* give a brain mask"):
        ct_brain_mask(np.round(shown) if rounded else shown, sizes)


@pytest.mark.parametrize("window", [(-100.0, 300.0), (-1000.0, 1000.0), (-200.0, 400.0)], ids=str)
def test_a_window_that_shows_the_skull_leaves_the_brain_as_it_is(window: tuple[float, float]) -> None:
    hu, brain, sizes = head((2.0, 2.0, 5.0))
    assert dice(ct_brain_mask(hu.clip(*window), sizes), brain) > 0.93


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_stripped_brain_in_a_window_is_taken_as_it_is(window: tuple[float, float]) -> None:
    hu, brain, sizes = head((2.0, 2.0, 5.0))
    assert dice(ct_brain_mask(np.where(brain, hu, 0).clip(*window), sizes), brain) > 0.97


def test_where_a_ct_is_cut_off_is_found_and_where_it_is_not() -> None:
    hu, brain, _ = head((2.0, 2.0, 5.0))
    assert cut_off_at(hu) is None
    assert cut_off_at(np.where(brain, hu, 0)) is None
    assert cut_off_at(hu.clip(-100, 300)) == 300
    assert cut_off_at(hu.clip(0, 80) * 255 / 80) == 255
    metal = hu.clip(None, 3071)
    metal[40:44, 40:44, 3] = 3071
    assert cut_off_at(metal) is None
    assert cut_off_at(np.full((4, 4, 4), 7.0)) is None
    assert cut_off_at(np.where(brain, 30.0, 0.0)) is None


def test_a_stripped_brain_may_keep_some_partial_bone_at_its_rim() -> None:
    hu, brain, sizes = head((2.0, 2.0, 6.0))
    generous = brain | (ndimage.binary_dilation(brain) & (hu < 700))
    assert (generous & (hu > 150)).sum() > 0.01 * generous.sum()
    stripped = np.where(generous, hu, np.float32(0))
    assert dice(ct_brain_mask(stripped, sizes), generous) > 0.999


def test_a_scanner_frame_of_constant_air_does_not_make_a_head_a_stripped_brain() -> None:
    """Outside the reconstruction circle many scanners write one value."""
    hu, brain, sizes = head((2.0, 2.0, 5.0))
    x, y, _ = np.ogrid[tuple(slice(-n // 2, n - n // 2) for n in hu.shape)]
    hu[np.broadcast_to(np.hypot(x * 2.0, y * 2.0) > 112, hu.shape)] = -1024
    assert dice(ct_brain_mask(hu, sizes), brain) > 0.93


def _no_brain(what: str) -> np.ndarray:
    shape = (60, 70, 16)
    x, y, _ = np.ogrid[-30:30, -35:35, 0:16]
    cylinder = np.broadcast_to(np.hypot(x, y) < 20, shape)
    noise = np.random.default_rng(0).normal(0, 5, shape)
    return {
        "all-air": np.full(shape, AIR),
        "noisy-air": AIR + noise,
        "all-zero": np.zeros(shape),
        "bone-phantom": np.where(cylinder, SKULL, AIR) + noise,
        "small-brain": head((3.0, 3.0, 5.0), scale=0.3).hu,
        "small-stripped-brain": np.where((np.hypot(x, y) < 6) & (np.arange(16) < 8), 30.0, 0.0),
    }[what].astype(np.float32)


@pytest.mark.parametrize(
    "what", ["all-air", "noisy-air", "all-zero", "bone-phantom", "small-brain", "small-stripped-brain"]
)
def test_what_holds_no_brain_is_refused(what: str) -> None:
    with pytest.raises(DataFault, match=r"implausible volume: \d+ mL, expected 60–2300 mL.*give a brain mask"):
        ct_brain_mask(_no_brain(what), np.array([3.0, 3.0, 5.0]))


def test_values_that_are_no_hu_are_refused() -> None:
    """A forgotten intercept: everything lies 1024 too high."""
    hu, _, sizes = head((3.0, 3.0, 5.0))
    with pytest.raises(DataFault, match="check that values are HU"):
        ct_brain_mask(hu + 1024, sizes)


@pytest.mark.parametrize("index", range(1, CASES + 1))
def test_the_brain_of_simulated_patients_is_found_in_their_files(shared_tree: Path, index: int) -> None:
    settings = Settings(SEED, "tiny", MIX)
    patient = draw_patient(draw_streams(settings, index).hidden, settings, index)
    anatomy = build_head(shared_atlas(), patient)
    brain = anatomy.grey + anatomy.white + anatomy.csf + anatomy.artery + anatomy.vein
    truth, _ = to_ras(np.stack([brain, anatomy.bone + anatomy.scalp], axis=-1), patient.grid.affine)
    ctp = read_volume(isles_file(shared_tree, index, "ctp"), 4)
    np.testing.assert_allclose(nib.affines.voxel_sizes(ctp.affine), patient.grid.spacing, rtol=1e-5)

    mask = CTPerfusion().find_brain(ctp)
    assert dice(mask, truth[..., 0] > 0.5) > 0.92  # voxels of 6 × 6 × 13 mm
    assert not (mask & (truth[..., 1] > 0.5)).any()


def test_foreground_is_the_filled_largest_part_above_zero() -> None:
    values = np.zeros((30, 30, 4))
    values[5:25, 5:25] = 100.0
    values[10:14, 10:14] = 0.0  # a dark ventricle
    values[0:2, 0:2] = 100.0  # something else in the picture
    values += np.random.default_rng(0).uniform(0, 1, values.shape)
    expected = np.zeros(values.shape, bool)
    expected[5:25, 5:25] = True
    np.testing.assert_array_equal(foreground_mask(values), expected)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_volume_without_foreground_is_refused(value: float) -> None:
    with pytest.raises(DataFault, match="no foreground"):
        foreground_mask(np.full((10, 10, 3), value))
