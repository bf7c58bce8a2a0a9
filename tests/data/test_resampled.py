"""Cases on the grid: slabs that follow the MRI, backgrounds that stay out, noise before and after, lost lesions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from ctp_ldm.data import CBF, CaseFolders, CTPToDiffusionMRI, Settings, SliceStore, prepare
from ctp_ldm.data.check import inspect_case
from ctp_ldm.data.preparation import PreparedCase, prepare_case
from ctp_ldm.data.resampled import in_one_line
from ctp_ldm.data.timing import sidecar_of

from . import trees
from .heads import GREY

TASK = CTPToDiffusionMRI().task
GRID = (6.0, (32, 40))
DISTANCE = 12.0
TIMED = trees.Encoding(interval=1.0)
Images = dict[str, np.ndarray]


def _case(root: Path, change: Callable[[Images], None] = lambda images: None, **sidecars: Any) -> Path:
    """A case folder of one patient whose arrays are changed, and whose targets have sidecars."""
    files, images = trees.case_folder(root, "p1"), {k: v.copy() for k, v in trees.patient(1).items()}
    change(images)
    trees.write_case(files, images, TIMED)
    for role, content in sidecars.items():
        sidecar_of(files[role]).write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def _prepared(root: Path, settings: Settings) -> PreparedCase:
    (case,) = CaseFolders().cases(root, TASK.roles)
    return prepare_case(case, TASK, settings)


# --------------------------------------------------------------------------------------------------------------- slabs


@pytest.mark.parametrize(
    ("thickness", "sidecars", "slabs", "remark"),
    [
        (5.0, {}, 6, None),
        (18.0, {}, 4, None),
        (None, {"adc": {"SpacingBetweenSlices": 18.0}}, 6, None),
        (18.0, {"adc": {"SpacingBetweenSlices": 12.0, "SliceThickness": 11.0}}, 6, None),
        (5.0, {"adc": {"SliceThickness": 18.0}}, 4, None),
        (5.0, {"adc": {"SpacingBetweenSlices": 18.0, "SliceThickness": 5.0}, "dwi": {"SliceThickness": 18}}, 4, None),
        (18.0, {"adc": {"SpacingBetweenSlices": 5.0}}, 4, None),
        (5.0, {"adc": {"SliceThickness": 14.0}, "dwi": {"SliceThickness": 20.0}}, 4, "adc 14.*20 mm is taken"),
        (5.0, {"dwi": {"SliceThickness": -3.0}}, 6, "dwi: SliceThickness is -3.0 in dwi.json; expected mm above 0"),
        (5.0, {"dwi": {"SliceThickness": "thick"}}, 6, "dwi: SliceThickness is thick"),
        (5.0, {"dwi": {"SliceThickness": True}}, 6, "dwi: SliceThickness is True"),
        (5.0, {"adc": "{half"}, 6, "adc: adc.json cannot be read"),
        (5.0, {"lesion": {"SliceThickness": 20.0}, "ctp": {"SliceThickness": 20.0}}, 6, None),
    ],
)
def test_slabs_follow_the_mri_where_its_own_slices_are_known(
    tmp_path: Path, thickness: float | None, sidecars: dict[str, Any], slabs: int, remark: str | None
) -> None:
    """72 mm in 6 slices."""
    prepared = _prepared(_case(tmp_path, **sidecars), Settings(*GRID, thickness))
    assert prepared.geometry.slices == slabs
    assert prepared.source.shape[0] == prepared.brain.shape[0] == slabs
    assert prepared.geometry.slice_distance == pytest.approx(72 / slabs)
    if remark is None:
        assert not any("MRI's own" in found for found in prepared.remarks)
    else:
        assert any(_matches(remark, found) for found in prepared.remarks)


def _matches(pattern: str, text: str) -> bool:
    head, _, tail = pattern.partition(".*")
    return head in text and tail in text


@pytest.mark.parametrize("thickness", [0.0, -1.0, 25.0])
def test_a_thickness_that_no_slab_has_is_refused(thickness: float) -> None:
    with pytest.raises(ValueError, match="slice_thickness must be above 0 and at most 20 mm, or null"):
        Settings(*GRID, thickness)


def test_a_store_of_slabs_says_so_and_is_refused_for_slices_as_they_came(tmp_path: Path) -> None:
    _case(tmp_path / "tree")
    store, _ = prepare(tmp_path / "tree", tmp_path / "s", TASK, CaseFolders(), Settings(*GRID, 18.0), workers=1)
    record = SliceStore(tmp_path / "s").records["p1"]
    assert store.spec.slice_thickness == 18.0
    assert len(record.brain_voxels) == record.geometry.slices == 4
    assert record.resampling["slices"] == [6, 4]
    assert record.resampling["thickness"] == [12.0, 18.0]
    module = CTPToDiffusionMRI(str(tmp_path / "s"), *GRID, slice_thickness=5.0, num_workers=0)
    with pytest.raises(ValueError, match=r"slice_thickness: 18\.0 ≠ 5\.0\n.*data.slice_thickness"):
        module.setup("fit")


# ---------------------------------------------------------------------------------------------------------- background


def _stripped(background: float) -> Callable[[Images], None]:
    """A brain without the skull's partial volume at its rim, in front of a background."""

    def change(images: Images) -> None:
        images["ctp"][images["brain"] & (images["ctp"][..., 0] > GREY + 8)] = GREY
        images["ctp"][~images["brain"]] = background

    return change


@pytest.mark.parametrize("background", [-1000.0, -1024.0, -3024.0, -8192.0])
@pytest.mark.parametrize("spacing", [3.0, 6.0, 7.7])
def test_the_background_of_a_stripped_head_changes_nothing(tmp_path: Path, background: float, spacing: float) -> None:
    settings = Settings(spacing, (80, 96) if spacing < 6 else (32, 40), 18.0)
    plain = _prepared(_case(tmp_path / "0", _stripped(0.0)), settings)
    found = _prepared(_case(tmp_path / "1", _stripped(background)), settings)
    np.testing.assert_array_equal(found.brain, plain.brain)
    np.testing.assert_allclose(found.source, plain.source, atol=1e-5)
    baseline = settings.spec(TASK).source[0].scaling.decode(found.source[:, 0])
    rim = found.brain & ~np.stack([ndimage.binary_erosion(slice_) for slice_ in found.brain])
    assert rim.sum() > 0.08 * found.brain.sum()
    assert np.median(baseline[rim]) == pytest.approx(GREY, abs=2)


# ------------------------------------------------------------------------------------------------- noise and sharpness


@pytest.mark.parametrize(("spacing", "thickness"), [(6.0, None), (6.0, 18.0), (9.0, None), (12.0, 18.0), (4.0, 18.0)])
def test_noise_and_sharpness_are_told_before_and_after(tmp_path: Path, spacing: float, thickness: float | None) -> None:
    """The patient's noise of 2 HU is white, so it is left with what the closed form says."""
    size = (64, 80) if spacing < 6 else (32, 40)
    settings = Settings(spacing, size, thickness)
    root = _case(tmp_path)
    (case,) = CaseFolders().cases(root, TASK.roles)
    facts = inspect_case(case, TASK, settings).facts["resampling"]
    assert facts == prepare_case(case, TASK, settings).resampling
    assert facts["noise"][0] == pytest.approx(2.0, rel=0.05)
    assert facts["measured_noise"] == pytest.approx(facts["noise"][1] / facts["noise"][0], rel=1e-3)
    assert facts["measured_noise"] == pytest.approx(facts["white_noise"], rel=0.06)
    assert facts["fwhm_in_plane"][0] == pytest.approx(0.6798 * 6, rel=1e-3)
    assert facts["fwhm_through_plane"][0] == pytest.approx(0.6798 * 12, rel=1e-3)
    if (spacing, thickness) == (6.0, None):
        assert facts["white_noise"] == pytest.approx(1)
        assert facts["fwhm_in_plane"][1] == pytest.approx(facts["fwhm_in_plane"][0])
    if spacing == 12.0:
        # 2 × 2 voxels of 1.5 slices, of which one counts whole and one half; fewer at the rim of the brain.
        assert facts["white_noise"] > np.sqrt(1 + 0.25) / 1.5 / 2
        assert facts["white_noise"] == pytest.approx(np.sqrt(1 + 0.25) / 1.5 / 2, rel=0.2)
        assert facts["fwhm_in_plane"][1] > 1.9 * facts["fwhm_in_plane"][0]


def test_a_task_without_a_series_has_the_closed_form_alone(tmp_path: Path) -> None:
    root = _case(tmp_path)
    task = CTPToDiffusionMRI(targets=dict(TASK.targets), sources={"cbf": CBF()}).task
    (case,) = CaseFolders().cases(root, task.roles)
    facts = prepare_case(case, task, Settings(*GRID, None)).resampling
    assert "noise" not in facts
    assert facts["white_noise"] == pytest.approx(1)


# -------------------------------------------------------------------------------------------------------------- lesions


def _only(*voxels: tuple[int, int, int]) -> Callable[[Images], None]:
    def change(images: Images) -> None:
        images["lesion"] = np.zeros_like(images["lesion"])
        for voxel in voxels:
            images["lesion"][voxel] = True

    return change


def test_a_lesion_too_small_for_the_grid_is_remarked_on_with_its_volume(tmp_path: Path) -> None:
    inside = tuple(int(i) for i in np.argwhere(trees.patient(1)["brain"]).mean(axis=0))
    root = _case(tmp_path, _only(inside))  # type: ignore[arg-type]
    (case,) = CaseFolders().cases(root, TASK.roles)
    fine, coarse = Settings(*GRID, None), Settings(12.0, (20, 24), 18.0)
    assert not any("without lesion" in remark for remark in prepare_case(case, TASK, fine).remarks)
    prepared = prepare_case(case, TASK, coarse)
    assert prepared.lesion is not None
    assert not prepared.lesion.any()
    assert prepared.resampling["lesion_ml"] == [pytest.approx(0.432), 0.0]
    said = "the lesion of 0.43 mL fills half of no voxel of the grid (12 × 12 × 18 mm): the case counts as one without"
    assert any(remark.startswith(said) for remark in prepared.remarks)
    assert any(remark.startswith(said) for remark in inspect_case(case, TASK, coarse).remarks)


@pytest.mark.parametrize(
    "settings", [Settings(*GRID, None), Settings(3.0, (80, 96), 5.0), Settings(7.0, (32, 40), 5.0)]
)
def test_a_lesion_keeps_its_volume(tmp_path: Path, settings: Settings) -> None:
    prepared = _prepared(_case(tmp_path), settings)
    in_file, on_grid = prepared.resampling["lesion_ml"]
    assert in_file == pytest.approx(trees.patient(1)["lesion"].sum() * np.prod(trees.SPACING) / 1000)
    assert prepared.lesion is not None
    assert on_grid == pytest.approx(prepared.lesion.sum() * prepared.geometry.voxel_ml)
    assert on_grid == pytest.approx(in_file, rel=0.1)


def test_predictions_of_slabs_lie_on_every_slice_of_the_file(tmp_path: Path) -> None:
    root = _case(tmp_path)
    prepared = _prepared(root, Settings(*GRID, 18.0))
    adc = CTPToDiffusionMRI().targets["adc"].scaling.decode(prepared.target[:, 1])  # type: ignore[index]
    back = prepared.geometry.from_grid(adc, prepared.brain)
    image = nib.Nifti1Image.from_filename(root / "p1/adc.nii.gz")
    truth = image.get_fdata()
    assert back.shape == truth.shape
    both = (back > 0) & (truth > 0)
    assert both.sum() > 0.9 * (truth > 0).sum()
    assert np.median(back[both]) == pytest.approx(np.median(truth[both]), rel=0.03)


def test_one_line_tells_the_medians_of_all_cases() -> None:
    told: dict[str, Any] = {"thickness": [1.25, 5.0], "fwhm_in_plane": [0.31, 0.75], "fwhm_through_plane": [0.85, 3.4]}
    cases = [{**told, "white_noise": 0.19}, {**told, "white_noise": 0.19, "measured_noise": 0.41}, {}]
    assert in_one_line(cases) == (
        "on the grid (medians): slices 1.25 → 5 mm, FWHM in-plane 0.31 → 0.75, through-plane 0.85 → 3.4 mm; "
        "white noise × 0.19, measured × 0.41"
    )
    assert "measured" not in in_one_line(cases[:1])
    assert in_one_line([]) == in_one_line([{}]) == ""
