"""CT and MRI that reach differently far: what one of them does not show is left out and said, or refused."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctp_ldm.data.cases import Case
from ctp_ldm.data.check import inspect_case
from ctp_ldm.data.extent import beyond_sources, shared_brain
from ctp_ldm.data.loading import LoadedCase, load_case
from ctp_ldm.data.module import CTPToDiffusionMRI
from ctp_ldm.data.preparation import Settings, prepare_case
from ctp_ldm.data.volumes import Volume

from . import trees
from .files import volume

TASK, SETTINGS = CTPToDiffusionMRI().task, Settings(spacing=6.0, size=(32, 40))
VOXEL_ML = float(np.prod(trees.SPACING)) / 1000
Change = Callable[[np.ndarray], np.ndarray]


def _case(root: Path, *changes: tuple[str, Change], brain: bool = True) -> Case:
    files = trees.case_folder(root, "p1")
    trees.write_case(files, trees.patient(1), trees.Encoding(interval=1.0))
    for role, change in changes:
        trees.changed(role, change)(files)
    return Case("p1", {r: p for r, p in files.items() if r in TASK.roles and (brain or r != "brain")})


def _without(slices: slice, value: float = 0.0) -> Change:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[:, :, slices] = value
        return values

    return change


def _said(loaded: LoadedCase, role: str) -> list[str]:
    return [remark for remark in loaded.remarks if remark.startswith(f"{role}: ")]


@pytest.mark.parametrize("role", ["adc", "dwi", "ctp"])
@pytest.mark.parametrize(("slices", "named"), [(slice(0, 1), "1"), (slice(5, 6), "6"), (slice(4, 6), "5–6")])
def test_slices_that_one_image_does_not_show_are_left_out_and_said(
    tmp_path: Path, role: str, slices: slice, named: str
) -> None:
    whole = load_case(_case(tmp_path / "whole"), TASK)
    loaded = load_case(_case(tmp_path / "cut", (role, _without(slices))), TASK)
    assert loaded.faults == []
    assert whole.brain is not None
    assert loaded.brain is not None
    missed = whole.brain[:, :, slices]
    (remark,) = [r for r in _said(loaded, role) if "no image" in r]
    assert remark == (
        f"{role}: holds no image in slices {named} from the feet, where the brain is: {missed.sum() * VOXEL_ML:.0f} mL "
        f"({missed.sum() / whole.brain.sum():.0%}) are left out"
    )
    expected = whole.brain.copy()
    expected[:, :, slices] = False
    np.testing.assert_array_equal(loaded.brain, expected)
    assert loaded.facts[role]["covered"] == 1


def test_what_is_left_out_is_neither_trained_on_nor_counted(tmp_path: Path) -> None:
    """Check and prepare say the same; a relative DWI does not see the slices in which it is 0."""
    case = _case(tmp_path, ("adc", _without(slice(4, 6))), ("dwi", _without(slice(4, 6))))
    whole, prepared = prepare_case(_case(tmp_path / "whole"), TASK, SETTINGS), prepare_case(case, TASK, SETTINGS)
    assert prepared.remarks == inspect_case(case, TASK, SETTINGS).remarks
    assert sum("slices 5–6 from the feet" in remark for remark in prepared.remarks) == 2
    assert whole.brain.any(axis=(1, 2)).all()
    np.testing.assert_array_equal(prepared.brain.any(axis=(1, 2)), [True] * 4 + [False] * 2)


def test_oblique_mri_that_fills_less_than_half_of_its_last_slice_does_not_show_it(tmp_path: Path) -> None:
    def wedge(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[:, 14:, 5] = 0
        values[:, 30:, 4] = 0
        return values

    loaded = load_case(_case(tmp_path, ("adc", wedge)), TASK)
    assert loaded.faults == []
    assert loaded.brain is not None
    assert [bool(b) for b in loaded.brain.any(axis=(0, 1))] == [True] * 5 + [False]


@pytest.mark.parametrize("roles", [("adc",), ("adc", "dwi"), ("ctp",)])
def test_images_that_share_less_than_half_of_the_brain_are_refused(tmp_path: Path, roles: tuple[str, ...]) -> None:
    loaded = load_case(_case(tmp_path, *((role, _without(slice(2, 6))) for role in roles)), TASK)
    for role in roles:
        assert any(re.search(rf"{role}\.nii\.gz is 0 in \d+% of the brain", fault) for fault in loaded.faults)


def test_images_that_hardly_overlap_are_refused(tmp_path: Path) -> None:
    """Each shows more than half, both together do not."""
    case = _case(tmp_path, ("ctp", _without(slice(0, 2))), ("adc", _without(slice(4, 6))))
    (fault,) = [f for f in load_case(case, TASK).faults if "lies in slices" in f]
    assert re.match(r"only \d+% of the brain lies in slices that adc and ctp show; expected at least 50%: check", fault)


@pytest.mark.parametrize("background", [0.0, -1000.0, -1024.0])
def test_mri_that_reaches_beyond_a_slab_of_ct_is_said(tmp_path: Path, background: float) -> None:
    """The brain is then that of the CT; what MRI shows above is compared with nothing."""
    loaded = load_case(_case(tmp_path, ("ctp", _without(slice(4, 6), background)), brain=False), TASK)
    assert loaded.faults == []
    assert loaded.brain is not None
    assert not loaded.brain[:, :, 4:].any()
    for role in ("adc", "dwi"):
        (remark,) = _said(loaded, role)
        assert re.match(
            rf"{role}: reaches beyond ctp, in slices 5–6 from the feet: \d+ mL \(\d+%\) are left out", remark
        )
    assert load_case(_case(tmp_path / "whole", brain=False), TASK).remarks == []


def _hand_made(**slices: slice) -> dict[str, Volume]:
    rng = np.random.default_rng(0)
    images = {role: rng.uniform(20, 40, (8, 8, 6)).astype(np.float32) for role in ("adc", "dwi")}
    series = {"ctp": rng.uniform(20, 40, (8, 8, 6, 9)).astype(np.float32)}
    for role, where in slices.items():
        {**images, **series}[role][:, :, where] = 0
    return {role: volume(values, name=role) for role, values in {**images, **series}.items()}


def test_slices_with_too_little_brain_to_be_judged_go_with_those_beside_them() -> None:
    brain = np.ones((8, 8, 6), bool)
    brain[:, :, 5] = False
    brain[2, 2:5, 5] = True
    faults: list[str] = []
    remarks: list[str] = []
    kept, fit = shared_brain(TASK, _hand_made(adc=slice(4, 5)), brain, faults, remarks)
    assert (faults, sorted(fit)) == ([], ["adc", "ctp", "dwi"])
    assert [bool(b) for b in kept.any(axis=(0, 1))] == [True] * 4 + [False] * 2
    assert remarks[0].startswith("adc: holds no image in slices 5–6 from the feet")


def test_a_companion_that_is_not_learnt_leaves_nothing_out() -> None:
    """An ADC map that is only looked at to make DWI relative."""
    task = TASK.__class__(TASK.sources, {"dwi": TASK.targets["dwi"]})
    faults: list[str] = []
    remarks: list[str] = []
    brain = np.ones((8, 8, 6), bool)
    kept, _ = shared_brain(task, _hand_made(adc=slice(4, 6)), brain, faults, remarks)
    assert (faults, remarks) == ([], [])
    assert kept.all()


def test_a_rim_of_mri_beyond_the_ct_is_not_worth_a_word() -> None:
    images = _hand_made(ctp=slice(5, 6))
    assert len(beyond_sources(TASK, images)) == 2
    for role in ("adc", "dwi"):
        images[role].values[1:, 1:, 5] = 0
    assert len(beyond_sources(TASK, images)) == 0
