"""Masks in every scale, and lesion masks that are something else."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ctp_ldm.data import CaseFolders, CTPToDiffusionMRI, Findings, Settings, check
from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.masks import require_possible_lesion, set_voxels
from ctp_ldm.data.volumes import Volume, read_volume

from . import trees
from .files import AFFINE, volume

SHAPE = (20, 24, 6)
MASK = np.zeros(SHAPE, bool)
MASK[5:11, 6:12, 1:4] = True
BRAIN = np.zeros(SHAPE, bool)
BRAIN[2:18, 2:22] = True


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("masks")


@pytest.mark.parametrize("top", [1.0, 0.99999999977, 0.7, 2.0, 3.0, 255.0, 65535.0, 1000.5])
def test_whatever_stands_for_one_is_set(top: float) -> None:
    np.testing.assert_array_equal(set_voxels(volume(MASK * top)), MASK)


@pytest.mark.parametrize(("top", "slope"), [(255, 1 / 255), (65535, 1 / 65535), (255, 1.0), (100, 0.01), (1, 1.0)])
def test_slopes_of_headers_do_not_matter_as_long_as_they_fit(tmp_path: Path, top: int, slope: float) -> None:
    path = _scaled(tmp_path / "lesion.nii.gz", MASK * top, slope)
    assert set_voxels(read_volume(path)).sum() == MASK.sum()


@pytest.mark.parametrize("slope", [1 / 65535, 1 / 255, 0.1, 0.49, -1.0])
def test_a_mask_that_its_slope_scales_away_is_refused(tmp_path: Path, slope: float) -> None:
    path = _scaled(tmp_path / "lesion.nii.gz", MASK, slope)
    with pytest.raises(DataFault, match=rf"lesion\.nii\.gz has {MASK.sum()} voxels .* none reaches 0\.5 .*scl_slope"):
        set_voxels(read_volume(path))


def _scaled(path: Path, stored: np.ndarray, slope: float, affine: np.ndarray = AFFINE) -> Path:
    image = nib.Nifti1Image(stored.astype(np.uint16), affine)
    image.header.set_slope_inter(slope, 0.0)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_a_mask_resampled_linearly_keeps_its_volume(top: float) -> None:
    """Half of the top is where the edge was; 0.5 of 255 would take the whole rim."""
    fine = ndimage.zoom(MASK * top, 2, order=1, grid_mode=True, mode="nearest")
    assert set_voxels(volume(np.round(fine))).sum() == pytest.approx(8 * MASK.sum(), rel=0.1)
    moved = ndimage.shift(MASK * top, (0.3, 0.4, 0.0), order=1)
    assert set_voxels(volume(moved)).sum() == pytest.approx(MASK.sum(), rel=0.05)


def test_a_mask_of_zeros_is_empty() -> None:
    assert not set_voxels(volume(np.zeros(SHAPE))).any()


@pytest.mark.parametrize("labels", [(1, 2), (1, 3), (1, 2, 3), (1, 255), (-1, 1)])
def test_several_labels_are_refused_not_chosen_from(labels: tuple[int, ...]) -> None:
    values = np.zeros(SHAPE)
    for number, label in enumerate(labels):
        values[2 + 4 * number : 5 + 4 * number, 5:9, 2] = label
    with pytest.raises(DataFault, match=rf"file\.nii\.gz holds the labels {', '.join(map(str, labels))}; expected"):
        set_voxels(volume(values))


def test_a_mask_that_is_0_nowhere_is_refused() -> None:
    with pytest.raises(DataFault, match=r"file\.nii\.gz is 0 nowhere, but 10 to 11; .* scl_inter is wrong"):
        set_voxels(volume(MASK + 10))
    assert set_voxels(volume(np.ones(SHAPE))).all()


def _set_or_refused(mask: Volume) -> np.ndarray | None:
    """What is set, or None where that is refused with the file's name."""
    try:
        return set_voxels(mask)
    except DataFault as error:
        message = str(error)
    assert message.startswith(str(mask.path))
    return None


@given(
    seed=st.integers(0, 999),
    share=st.floats(0.002, 0.9),
    top=st.sampled_from([1, 2, 10, 100, 255, 1000, 65535]),
    kind=st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32]),
    slope=st.sampled_from([1.0, 1 / 65535, 1 / 255, 1 / 100, 0.3, 0.5, 2.0, 255.0, -1.0]),
    inter=st.sampled_from([0.0, 0.0, 0.0, 1.0, -1.0, 0.4, 100.0]),
)
@settings(max_examples=250)
def test_no_mask_is_read_as_another(
    masks: Path, seed: int, share: float, top: int, kind: type, slope: float, inter: float
) -> None:
    """However it is stored and scaled: the voxels that were set, or a fault; never others, and never none."""
    if np.issubdtype(kind, np.integer) and top > np.iinfo(kind).max:
        top = 1
    mask = np.random.default_rng(seed).random((5, 4, 3)) < share
    assume(0 < mask.sum() < mask.size)  # of a file of one value nobody knows which
    assume(slope > 0 or inter == 0)  # 1 − stored is a mask the other way round
    image = nib.Nifti1Image((mask * top).astype(kind), AFFINE)
    image.header.set_slope_inter(slope, inter)
    nib.save(image, masks / "mask.nii")
    found = _set_or_refused(read_volume(masks / "mask.nii"))
    if found is not None:
        np.testing.assert_array_equal(found[::-1], mask)  # AFFINE is LAS


@given(
    corner=st.tuples(*[st.integers(1, 8)] * 3),
    edges=st.tuples(*[st.integers(1, 6)] * 3),
    shift=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    zoom=st.sampled_from([0.5, 1.0, 1.5, 2.0]),
    scale=st.sampled_from([1.0, 1 / 255, 100.0, 255.0, 65535.0]),
    rounded=st.booleans(),
)
@settings(max_examples=100)
def test_a_resampled_mask_is_what_is_above_half_of_its_top_or_a_fault(
    corner: tuple[int, ...],
    edges: tuple[int, ...],
    shift: tuple[float, ...],
    zoom: float,
    scale: float,
    rounded: bool,
) -> None:
    mask = np.zeros((16, 16, 16))
    mask[tuple(slice(c, c + e) for c, e in zip(corner, edges, strict=True))] = 1
    blurred = ndimage.zoom(ndimage.shift(mask, shift, order=1), zoom, order=1, grid_mode=True, mode="nearest")
    stored = np.round(blurred * scale) if rounded else blurred * scale
    found = _set_or_refused(volume(stored))
    if found is None:
        return
    assert found.any() == bool(stored.any())
    assert not (found & (stored <= 0.5 * stored.max())).any()
    if blurred.any() and not rounded:
        above = blurred / blurred.max() - 0.5
        told = abs(above) > 1e-6  # on the very half the scale's rounding decides
        np.testing.assert_array_equal(found[told], (above > 0)[told])


def test_a_lesion_mask_over_more_than_any_infarct_is_refused() -> None:
    hemisphere, eroded = BRAIN.copy(), ndimage.binary_erosion(BRAIN, np.ones((3, 3, 1)))
    hemisphere[10:] = False
    for lesion in (MASK, hemisphere, ~BRAIN, np.zeros(SHAPE)):
        require_possible_lesion(volume(lesion), BRAIN)
    for other, share in ((BRAIN, "100%"), (np.ones(SHAPE), "100%"), (eroded, r"7\d%"), (BRAIN & ~MASK, r"9\d%")):
        with pytest.raises(DataFault, match=rf"file\.nii\.gz covers {share} of the brain; expected at most 60%"):
            require_possible_lesion(volume(255.0 * other), BRAIN)


def test_an_image_given_as_lesion_is_refused() -> None:
    image = BRAIN * np.random.default_rng(0).normal(300, 30, SHAPE) + 500 * MASK
    with pytest.raises(DataFault, match=r"is above 0 in 100% of the brain, .* it is an image"):
        require_possible_lesion(volume(image), BRAIN)


# -------------------------------------------------------------------------------------------------- as check says it


def _checked(root: Path, lesion: np.ndarray, slope: float = 1.0) -> Findings:
    """What `check` finds for a patient with another lesion file."""
    files = trees.case_folder(root, "p1")
    trees.write_case(files, trees.patient(1), trees.Encoding(interval=1.0))
    _scaled(files["lesion"], lesion, slope, trees.affine_of(files["adc"]))
    settings = Settings(spacing=6.0, size=(32, 40))
    return check(root, CTPToDiffusionMRI().task, CaseFolders(), settings, workers=1).cases["p1"]


def _in_file_order(values: np.ndarray) -> np.ndarray:
    return values[::-1].astype(np.uint16)


def test_check_tells_a_mask_that_was_scaled_away_and_never_calls_it_lesion_free(tmp_path: Path) -> None:
    found = _checked(tmp_path, _in_file_order(trees.patient(1)["lesion"]), slope=1 / 65535)
    assert [fault for fault in found.faults if "lesion.nii.gz" in fault and "none reaches 0.5" in fault]
    assert "lesion" not in found.facts


@pytest.mark.parametrize(("top", "slope"), [(255, 1.0), (255, 1 / 255), (65535, 1.0)])
def test_check_finds_the_same_lesion_in_every_scale(tmp_path: Path, top: int, slope: float) -> None:
    truth = trees.patient(1)["lesion"]
    found = _checked(tmp_path, _in_file_order(truth) * np.uint16(top), slope)
    assert (found.faults, found.remarks) == ([], [])
    assert found.facts["lesion"]["ml"] == pytest.approx(truth.sum() * np.prod(trees.SPACING) / 1000)


def test_check_refuses_a_brain_mask_given_as_lesion(tmp_path: Path) -> None:
    found = _checked(tmp_path, _in_file_order(trees.patient(1)["brain"]))
    assert len(found.faults) == 1
    assert "expected at most 60%" in found.faults[0]
