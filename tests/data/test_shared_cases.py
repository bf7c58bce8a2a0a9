"""The inputs of ../shared/cases: each stands for a kind of fault met in public bug reports, and for what is right."""

import os
import re
import runpy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from ctp_ldm.data import ISLES24, CaseFolders, CTPToDiffusionMRI, Settings, check, prepare
from ctp_ldm.data.faults import DataFaults
from ctp_ldm.data.loading import LoadedCase, load_case
from ctp_ldm.data.preparation import prepare_case
from ctp_ldm.data.task import Task

SCRIPT = Path(__file__).parents[3] / "shared" / "cases" / "make_cases.py"
TASK, SETTINGS = CTPToDiffusionMRI().task, Settings(2.8, (64, 80))
LESION_ML, ARRIVAL_S, BASELINE_HU = 13.05, 12.4, 30.0
ROLES = ("ctp", "adc", "dwi", "lesion")
SHIFTED_MM = 179  # twice 32 voxels of 2.8 mm: a mirrored head

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Name of a case → the folder with its patients."""
    if not SCRIPT.is_file():
        pytest.skip(f"needs {os.path.relpath(SCRIPT, Path(__file__).parents[2])}, which is not there")
    script, root = runpy.run_path(str(SCRIPT)), tmp_path_factory.mktemp("cases")

    @cache
    def make(name: str) -> Path:
        script[name](root / name)
        return root / name

    return make


@pytest.fixture(scope="module")
def clean(make: Make) -> LoadedCase:
    """What the others are to be compared with."""
    return _load(make("clean"))


def _load(root: Path, task: Task = TASK) -> LoadedCase:
    (case,) = CaseFolders().cases(root, task.roles)
    return load_case(case, task)


def _refused(root: Path) -> list[str]:
    """What `check` says is wrong, which is what `prepare` says."""
    (case,) = CaseFolders().cases(root, TASK.roles)
    with pytest.raises(DataFaults) as error:
        prepare_case(case, TASK, SETTINGS)
    found = check(root, TASK, CaseFolders(), SETTINGS, workers=1).cases["p01"].faults
    assert [fault.message for fault in error.value.faults] == found
    return found


def _differs(found: LoadedCase, clean: LoadedCase, slices: slice = slice(None)) -> np.ndarray:
    """(C,) how far the median of each channel of the source is from the clean one's, HU, at worst in a slice."""
    assert clean.brain is not None
    difference = found.values["ctp"] - clean.values["ctp"]
    medians = [
        np.median(difference[:, :, :, z][:, clean.brain[:, :, z]], axis=1) for z in range(clean.brain.shape[2])[slices]
    ]
    return np.abs(medians).max(axis=0)


def test_nothing_is_wrong_with_the_clean_case_and_nothing_is_said(clean: LoadedCase) -> None:
    """Its MRI is stripped at the cortex, its CT shows the fluid around: no hole in the MRI."""
    assert (clean.faults, clean.remarks) == ([], [])
    assert clean.facts["lesion"]["ml"] == pytest.approx(LESION_ML, abs=0.01)
    assert clean.facts["ctp"]["arrival"] == pytest.approx(ARRIVAL_S, abs=0.05)
    assert clean.facts["ctp"]["median"] == pytest.approx(BASELINE_HU, abs=0.5)


def test_hu_plus_1000_on_a_background_of_0_is_refused_and_read_where_the_unit_is_stated(
    make: Make, clean: LoadedCase
) -> None:
    """Real air is noisy, cut off or not: where it is exactly 0 somebody has set it, and it says nothing."""
    (fault,) = _refused(make("hu_plus_1000"))
    assert "tissue at 1031 and a background of 0, which fits HU+1000 and HU+1010; state which with data.units" in fault
    stated = _load(make("hu_plus_1000"), TASK.stating({"ctp": "HU+1000"}))
    assert (stated.faults, stated.remarks) == ([], [])
    np.testing.assert_array_equal(stated.values["ctp"], clean.values["ctp"])
    wrong = _load(make("hu_plus_1000"), TASK.stating({"ctp": "HU+1024"}))
    assert wrong.faults, "a unit that the tissue contradicts is not believed"


def test_missing_frames_and_slices_are_said_and_change_nothing(make: Make, clean: LoadedCase) -> None:
    found = _load(make("holes_in_series"))
    said = "ctp: frames 5 (slices 5 from the feet); 30 (slices 6–8 from the feet) hold no image and are left out"
    assert (found.faults, found.remarks) == ([], [said])
    assert _differs(found, clean).max() < 0.5
    assert found.facts["ctp"]["arrival"] == pytest.approx(ARRIVAL_S, abs=0.1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mask_scaled_away", ["lesion.nii.gz has 208 voxels that are not 0, and none reaches 0.5"]),
        ("dwi_and_adc_swapped", ["adc.nii.gz reaches down to 0.2 .*it is a DWI or an exponential ADC"]),
        ("exponential_adc", ["adc.nii.gz reaches down to .*it is a DWI or an exponential ADC"]),
        ("brain_mask_as_lesion", ["lesion.nii.gz covers 85% of the brain; expected at most 60%"]),
        ("forms_disagree", [rf"{r}.nii.gz has two forms .* {SHIFTED_MM} mm apart" for r in ROLES]),
        ("no_orientation", [rf"{r}.nii.gz does not say which way" for r in ROLES]),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(make: Make, name: str, said: list[str]) -> None:
    faults = _refused(make(name))
    assert len(faults) == len(said)
    for fault, pattern in zip(sorted(faults), sorted(said), strict=True):
        assert re.search(pattern, fault)


def test_a_tilted_gantry_changes_no_volume(make: Make) -> None:
    found = _load(make("gantry_tilt"))
    assert (found.faults, found.remarks) == ([], [])
    assert found.facts["lesion"]["ml"] == pytest.approx(LESION_ML, abs=0.01)
    (case,) = CaseFolders().cases(make("gantry_tilt"), TASK.roles)
    geometry = prepare_case(case, TASK, SETTINGS).geometry
    assert geometry.voxel_ml == pytest.approx(2.8**2 * 8 / 1000, rel=1e-5)
    assert geometry.forms == found.forms


@pytest.mark.parametrize(("spacing", "size"), [(1.0, (192, 224)), (2.8, (64, 80)), (4.0, (48, 56))])
def test_a_stripped_background_of_minus_1024_does_not_reach_the_rim(
    make: Make, spacing: float, size: tuple[int, int]
) -> None:
    """The rim is grey matter of 37 HU."""
    (case,) = CaseFolders().cases(make("stripped_background_1024"), TASK.roles)
    settings = Settings(spacing, size)
    prepared = prepare_case(case, TASK, settings)
    baseline = settings.spec(TASK).source[0].scaling.decode(prepared.source[:, 0])
    rim = prepared.brain & ~np.stack([binary_erosion(slice_) for slice_ in prepared.brain])
    np.testing.assert_allclose(baseline[rim], 37, atol=5)
    assert baseline[rim].mean() == pytest.approx(37, abs=0.3)


def test_two_slabs_taken_in_turn_are_each_taken_at_their_own_times(make: Make, clean: LoadedCase) -> None:
    found = _load(make("two_slabs"))
    assert (found.faults, found.remarks) == ([], [])
    assert found.facts["ctp"]["arrival"] == pytest.approx(ARRIVAL_S, abs=0.15)
    assert _differs(found, clean, slice(4, 8))[1:12].max() < 1.0  # of an enhancement of 10 HU


def test_one_file_of_an_unknown_unit_is_told_and_the_others_go_on(make: Make, tmp_path: Path) -> None:
    root = make("unknown_units")
    findings = check(root, TASK, CaseFolders(), SETTINGS, workers=1).cases
    assert {name: len(found.faults) for name, found in findings.items()} == {"p01": 0, "p02": 1, "p03": 0}
    assert "ctp.nii.gz has an unknown unit of length (xyzt_units is 5" in findings["p02"].faults[0]
    store, faults = prepare(root, tmp_path, TASK, CaseFolders(), SETTINGS, workers=1, skip_invalid=True)
    assert sorted(store.records) == ["p01", "p03"]
    assert [fault.message for fault in faults] == findings["p02"].faults


def test_timing_that_is_nobodys_word_is_said_by_check_and_prepare(make: Make) -> None:
    (case,) = ISLES24().cases(make("isles_no_timing"), TASK.roles)
    loaded = load_case(case, TASK)
    assert loaded.faults == []
    assert loaded.remarks == ["ctp: frames 1 s apart are assumed: the file does not say (data.frame_interval does)"]
    assert prepare_case(case, TASK, SETTINGS).remarks == loaded.remarks
    assert load_case(case, TASK, frame_interval=2.0).facts["ctp"]["arrival"] == pytest.approx(14.4, abs=0.3)
