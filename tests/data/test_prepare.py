"""From a folder of files to a finished store: every fault in one error, nothing half-done, nothing done twice."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctp_ldm.data import (
    ISLES24,
    ApparentDiffusion,
    CaseFolders,
    CTPerfusion,
    CTPToDiffusionMRI,
    Intensity,
    RelativeDWI,
    Settings,
    SliceStore,
    check,
    prepare,
    require_good,
)
from ctp_ldm.data.cases import find_cases
from ctp_ldm.data.faults import CaseFault, DataFaults
from ctp_ldm.data.preparation import prepare_case
from ctp_ldm.data.store import StoreError
from ctp_ldm.data.task import Task
from ctp_ldm.data.timing import sidecar_of
from ctp_ldm.data.volumes import Volume

from .conftest import CASES, SETTINGS
from .files import AFFINE, isles_file, rewrite, save

TASK = CTPToDiffusionMRI().task
NAMES = [f"sub-stroke{i:04d}" for i in range(1, CASES + 1)]
HALF_ROUNDING = 2.0**-12


def _prepare(
    tree: Path, store: Path, settings: Settings = SETTINGS, skip_invalid: bool = False, task: Task = TASK
) -> tuple[SliceStore, list[CaseFault]]:
    return prepare(tree, store, task, ISLES24(), settings, workers=1, skip_invalid=skip_invalid)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _put_nan(path: Path) -> None:
    values = nib.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32)
    values[3, 4, 2] = np.nan
    rewrite(path, values)


def _shift(path: Path) -> None:
    affine = nib.Nifti1Image.from_filename(path).affine.copy()
    affine[0, 3] += 6.0
    rewrite(path, affine=affine)


def _drop_a_time(path: Path) -> None:
    content = json.loads(sidecar_of(path).read_text())
    sidecar_of(path).write_text(json.dumps({"FrameTimesStart": content["FrameTimesStart"][:-1]}))


def _scale(factor: float) -> Callable[[Path], None]:
    return lambda path: rewrite(path, nib.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32) * factor)


def _mirror_lesion(path: Path) -> None:
    """A lesion in the air beside the head, as a lost flip would put it."""
    values = np.zeros(nib.Nifti1Image.from_filename(path).shape, np.uint8)
    values[:3, :3] = 1
    rewrite(path, values)


BREAKS: list[tuple[int, str, Callable[[Path], None], str]] = [
    (1, "ctp", _truncate, "cannot be read as NIfTI"),
    (1, "dwi", _put_nan, "1 non-finite"),
    (2, "adc", Path.unlink, "adc is missing"),
    (3, "lesion-msk", _shift, "6 mm apart"),
    (4, "ctp", _drop_a_time, "FrameTimesStart"),
    (5, "adc", _scale(0.1), "has a median of"),
]


@pytest.fixture
def broken(tree: Path) -> Path:
    """Five of six patients are broken, the first of them twice."""
    for index, kind, damage, _ in BREAKS:
        damage(isles_file(tree, index, kind))
    return tree


def _case_times(store: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in store.glob("cases/*/case.json")}


# ------------------------------------------------------------------------------------------------------------ faults


def _require_all_named(error: DataFaults, tree: Path) -> None:
    for index, kind, damage, what in BREAKS:
        path = isles_file(tree, index, kind)
        named = sidecar_of(path) if damage is _drop_a_time else path
        (fault,) = [f for f in error.faults if f.case == NAMES[index - 1] and what in f.message]
        assert str(named) in fault.message
        assert str(fault) in str(error)
    assert {fault.case for fault in error.faults} == set(NAMES[:5])


def test_preparing_reports_every_fault_of_every_case_at_once(broken: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFaults) as error:
        _prepare(broken, tmp_path / "store")
    _require_all_named(error.value, broken)
    assert "--skip-invalid" in str(error.value)


def test_checking_reports_the_same_and_writes_nothing(broken: Path) -> None:
    before = sorted(broken.parent.rglob("*"))
    with pytest.raises(DataFaults, match="1 of 6 cases are good") as error:
        require_good(check(broken, TASK, ISLES24(), SETTINGS, workers=1))
    _require_all_named(error.value, broken)
    assert sorted(broken.parent.rglob("*")) == before


def test_each_fault_is_told_once(tree: Path) -> None:
    _scale(0.1)(isles_file(tree, 2, "adc"))
    assert len(check(tree, TASK, ISLES24(), SETTINGS, workers=1).faults) == 1


def test_faults_come_back_from_a_worker_process_whole() -> None:
    error = DataFaults([CaseFault("p1", "a.nii.gz is missing"), CaseFault("p2", "b.nii.gz is short")], "mend them")
    back = pickle.loads(pickle.dumps(error))
    assert isinstance(back, DataFaults)
    assert back.faults == error.faults
    assert str(back) == str(error)


def test_checking_good_cases_finds_no_fault(shared_tree: Path) -> None:
    found = check(shared_tree, TASK, ISLES24(), SETTINGS, workers=1)
    assert list(found.cases) == NAMES
    assert not found.faults
    require_good(found)


def test_faults_leave_the_store_unfinished_and_keep_the_good_cases(broken: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFaults, match=r"1 good case\(s\) are kept"):
        _prepare(broken, tmp_path / "store")
    assert list(_case_times(tmp_path / "store")) == [NAMES[5]]
    with pytest.raises(StoreError, match="unfinished store"):
        SliceStore(tmp_path / "store")


def test_skipping_invalid_cases_finishes_without_them_and_says_which(broken: Path, tmp_path: Path) -> None:
    store, faults = _prepare(broken, tmp_path / "store", skip_invalid=True)
    assert list(store.records) == [NAMES[5]]
    assert {fault.case for fault in faults} == set(NAMES[:5])
    assert len(faults) == len(BREAKS)


def test_skipping_every_case_is_refused(tree: Path, tmp_path: Path) -> None:
    for index in range(1, CASES + 1):
        isles_file(tree, index, "ctp").unlink()
    with pytest.raises(DataFaults, match="ctp is missing"):
        _prepare(tree, tmp_path / "store", skip_invalid=True)
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_bad_names_come_with_the_other_faults(tree: Path, tmp_path: Path) -> None:
    folder = tree / "derivatives"
    (folder / "sub-stroke0006").rename(folder / "sub-six seven")
    isles_file(tree, 1, "ctp").unlink()
    with pytest.raises(DataFaults) as error:
        _prepare(tree, tmp_path / "store")
    assert {fault.case for fault in error.value.faults} == {"sub-six seven", NAMES[0]}


@pytest.mark.parametrize("kind", ["ctp", "dwi", "adc"])
def test_one_image_in_two_cases_is_a_fault_of_the_second(tree: Path, tmp_path: Path, kind: str) -> None:
    """Written anew with another data type: the content counts, not the file."""
    values = nib.Nifti1Image.from_filename(isles_file(tree, 1, kind)).get_fdata(dtype=np.float32)
    rewrite(isles_file(tree, 4, kind), values.astype(np.float64))
    if kind == "ctp":
        shutil.copy(sidecar_of(isles_file(tree, 1, kind)), sidecar_of(isles_file(tree, 4, kind)))
    with pytest.raises(DataFaults) as error:
        _prepare(tree, tmp_path / "store")
    same = CaseFault(NAMES[3], f"its {kind} has the content of {NAMES[0]}'s: one patient under two names")
    assert same in error.value.faults
    assert {fault.case for fault in error.value.faults} == {NAMES[3]}
    store, faults = _prepare(tree, tmp_path / "store", skip_invalid=True)
    assert same in faults
    assert list(store.records) == [name for name in NAMES if name != NAMES[3]]


def test_a_patient_that_comes_again_later_is_found_in_the_store(tree: Path, tmp_path: Path) -> None:
    _prepare(tree, tmp_path / "store")
    for index, kind in ((6, "ctp"), (6, "dwi"), (6, "adc"), (6, "lesion-msk")):
        copy = isles_file(tree, 7, kind)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(isles_file(tree, index, kind), copy)
    shutil.copy(sidecar_of(isles_file(tree, 6, "ctp")), sidecar_of(isles_file(tree, 7, "ctp")))
    with pytest.raises(DataFaults) as error:
        _prepare(tree, tmp_path / "store")
    (fault,) = error.value.faults
    assert fault.case == "sub-stroke0007"
    assert f"have the content of {NAMES[5]}'s" in fault.message
    assert all(kind in fault.message for kind in ("ctp", "dwi", "adc"))


def test_one_image_under_two_roles_is_a_fault(tree: Path, tmp_path: Path) -> None:
    shutil.copy(isles_file(tree, 2, "adc"), isles_file(tree, 2, "dwi"))
    with pytest.raises(DataFaults, match=r"sub-stroke0002: .* has the content of .*: one is the wrong file") as error:
        _prepare(tree, tmp_path / "store")
    assert {fault.case for fault in error.value.faults} == {NAMES[1]}


def test_a_lesion_outside_the_brain_is_a_fault(tree: Path, tmp_path: Path) -> None:
    path = isles_file(tree, 3, "lesion-msk")
    _mirror_lesion(path)
    with pytest.raises(DataFaults, match=rf"{re.escape(str(path))}: only 0% of the lesion lies in the brain"):
        _prepare(tree, tmp_path / "store")


def test_a_brain_larger_than_the_grid_is_a_fault_of_its_case(shared_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFaults, match="enlarge size or spacing") as error:
        _prepare(shared_tree, tmp_path / "store", Settings(3.0, (32, 40)))
    assert {fault.case for fault in error.value.faults} == set(NAMES)


@pytest.mark.parametrize("kinds", [("dwi", "adc", "lesion-msk"), ("dwi",), ("lesion-msk",)], ids=str)
def test_a_case_without_mri_is_a_fault_unless_it_is_for_prediction(
    tree: Path, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    for kind in kinds:
        isles_file(tree, 2, kind).unlink()
    with pytest.raises(DataFaults, match="--sources-only") as error:
        _prepare(tree, tmp_path / "store")
    assert len(error.value.faults) == len(kinds)

    store, faults = _prepare(tree, tmp_path / "store", replace(SETTINGS, sources_only=True))
    assert not faults
    assert [name for name, record in store.records.items() if not record.complete(needs_lesion=True)] == [NAMES[1]]
    record = store.records[NAMES[1]]
    assert record.has_target == (kinds == ("lesion-msk",))
    assert (record.lesion_voxels is None) == ("lesion-msk" in kinds)
    with pytest.raises(StoreError, match=f"{NAMES[1]} has no (lesion|target)"):
        store.read(NAMES[1], "lesion" if record.has_target else "target")


def test_a_case_without_its_source_is_a_fault_even_for_prediction(tree: Path, tmp_path: Path) -> None:
    isles_file(tree, 2, "ctp").unlink()
    with pytest.raises(DataFaults, match="ctp is missing"):
        _prepare(tree, tmp_path / "store", replace(SETTINGS, sources_only=True))


@pytest.mark.parametrize(("spacing", "size"), [(0.0, (32, 40)), (-1.0, (32, 40)), (1.0, (15, 40)), (1.0, (32, 0))])
def test_impossible_grids_are_refused(spacing: float, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"spacing must be above 0|size must be at least 16"):
        Settings(spacing, size)


# ------------------------------------------------------------------------------------------------ resuming, renewing


def test_an_interrupted_run_goes_on_where_it_was(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, path = np.save, tmp_path / "store"

    def interrupted(file: Path, *arguments: object, **options: object) -> None:
        if f".{NAMES[3]}" in str(file) and "brain" in file.name:
            raise KeyboardInterrupt
        original(file, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _prepare(shared_tree, path)
    assert (path / "cases" / f".{NAMES[3]}" / "source.npy").exists()
    with pytest.raises(StoreError, match="unfinished"):
        SliceStore(path)
    done = _case_times(path)
    assert sorted(done) == NAMES[:3]

    store, faults = _prepare(shared_tree, path)
    assert list(store.records) == NAMES
    assert not faults
    assert {name: _case_times(path)[name] for name in done} == done
    assert not list(path.rglob(".*"))


def test_mended_cases_are_added_and_good_ones_kept(broken: Path, shared_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFaults):
        _prepare(broken, tmp_path / "store")
    kept = _case_times(tmp_path / "store")
    for index in range(1, 6):
        folder = broken / "derivatives" / NAMES[index - 1]
        shutil.rmtree(folder)
        shutil.copytree(shared_tree / "derivatives" / NAMES[index - 1], folder)
    store, _ = _prepare(broken, tmp_path / "store")
    assert list(store.records) == NAMES
    assert _case_times(tmp_path / "store")[NAMES[5]] == kept[NAMES[5]]


def test_repeating_a_finished_run_changes_no_case(tree: Path, tmp_path: Path) -> None:
    first, _ = _prepare(tree, tmp_path / "store")
    times = _case_times(tmp_path / "store")
    second, _ = _prepare(tree, tmp_path / "store")
    assert _case_times(tmp_path / "store") == times
    assert second.records == first.records


def _another_dwi(tree: Path) -> None:
    path = isles_file(tree, 2, "dwi")
    rewrite(path, np.asarray(nib.Nifti1Image.from_filename(path).dataobj)[::-1])


def _slower_clock(tree: Path) -> None:
    path = sidecar_of(isles_file(tree, 2, "ctp"))
    times = json.loads(path.read_text())["FrameTimesStart"]
    path.write_text(json.dumps({"FrameTimesStart": [1.25 * t for t in times]}))


@pytest.mark.parametrize(
    ("change", "kind"), [(_another_dwi, "target"), (_slower_clock, "source")], ids=["voxels", "frame-times"]
)
def test_a_case_whose_files_changed_is_made_anew_and_no_other(
    tree: Path, tmp_path: Path, change: Callable[[Path], None], kind: str
) -> None:
    before, _ = _prepare(tree, tmp_path / "store")
    old = np.array(before.read(NAMES[1], kind))  # type: ignore[arg-type]
    times = _case_times(tmp_path / "store")
    change(tree)
    after, _ = _prepare(tree, tmp_path / "store")
    now = _case_times(tmp_path / "store")
    assert [name for name in NAMES if now[name] != times[name]] == [NAMES[1]]
    assert not np.array_equal(after.read(NAMES[1], kind), old)  # type: ignore[arg-type]


def test_other_phases_under_the_same_channel_names_are_made_anew(shared_tree: Path, tmp_path: Path) -> None:
    before, _ = _prepare(shared_tree, tmp_path / "store")
    old = np.array(before.read(NAMES[0], "source"))
    faster = replace(TASK, sources={"ctp": CTPerfusion(interval=2.0)})
    after, _ = _prepare(shared_tree, tmp_path / "store", task=faster)
    assert not np.array_equal(after.read(NAMES[0], "source"), old)


def test_a_finished_store_is_unfinished_while_a_later_run_has_faults(tree: Path, tmp_path: Path) -> None:
    """Its manifest would describe arrays that the later run may have replaced."""
    _prepare(tree, tmp_path / "store")
    _another_dwi(tree)
    _truncate(isles_file(tree, 5, "ctp"))
    with pytest.raises(DataFaults, match="not finished"):
        _prepare(tree, tmp_path / "store")
    with pytest.raises(StoreError, match="unfinished"):
        SliceStore(tmp_path / "store")


def test_patients_that_left_the_data_set_leave_the_store(tree: Path, tmp_path: Path) -> None:
    _prepare(tree, tmp_path / "store")
    shutil.rmtree(tree / "derivatives" / NAMES[2])
    store, _ = _prepare(tree, tmp_path / "store")
    assert list(store.records) == [name for name in NAMES if name != NAMES[2]]


# ---------------------------------------------------------------------------------------------- what is refused whole


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((Settings(5.9, (32, 40)), TASK), id="spacing"),
        pytest.param((Settings(6.0, (40, 40)), TASK), id="size"),
        pytest.param((SETTINGS, replace(TASK, targets={"adc": ApparentDiffusion()})), id="targets"),
        pytest.param((SETTINGS, replace(TASK, sources={"ctp": CTPerfusion(phases=9)})), id="phases"),
    ],
)
def test_another_specification_into_the_same_store_is_refused_and_harms_nothing(
    shared_tree: Path, store: Path, other: tuple[Settings, Task]
) -> None:
    settings, task = other
    with pytest.raises(StoreError, match="prepared with other settings"):
        _prepare(shared_tree, store, settings, task=task)
    assert list(SliceStore(store).records) == NAMES


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(shared_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(StoreError, match="not empty and not a slice store"):
        _prepare(shared_tree, tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_a_file_in_the_stores_place_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        _prepare(shared_tree, tmp_path / "store")


def test_a_store_of_another_version_is_not_written_into(shared_tree: Path, store: Path) -> None:
    header = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**header, "version": header["version"] + 1}))
    with pytest.raises(StoreError, match="version"):
        _prepare(shared_tree, store)


# ---------------------------------------------------------------------------------------------------- what is stored


def test_stored_values_are_the_encoded_ones_within_half_precision(shared_tree: Path, shared_store: Path) -> None:
    store = SliceStore(shared_store)
    cases, _ = find_cases(ISLES24(), shared_tree, TASK.roles)
    for case in cases[:3]:
        prepared = prepare_case(case, TASK, SETTINGS)
        assert prepared.target is not None
        assert prepared.lesion is not None
        for kind, exact in (("source", prepared.source), ("target", prepared.target)):
            stored = store.read(case.name, kind)  # type: ignore[arg-type]
            assert stored.dtype == np.float16
            assert stored.shape == exact.shape
            assert np.abs(stored.astype(np.float32) - exact).max() <= HALF_ROUNDING
        np.testing.assert_array_equal(store.read(case.name, "brain"), prepared.brain)
        np.testing.assert_array_equal(store.read(case.name, "lesion"), prepared.lesion)


def test_everything_stored_is_in_range_and_background_outside_the_brain(shared_store: Path) -> None:
    store = SliceStore(shared_store)
    for name, record in store.records.items():
        outside = store.read(name, "brain") == 0
        for kind, channels in (("source", store.spec.source), ("target", store.spec.target)):
            values = store.read(name, kind).astype(np.float32)  # type: ignore[arg-type]
            assert np.abs(values).max() <= 1
            for i, channel in enumerate(channels):
                assert (values[:, i][outside] == channel.scaling.background).all()
                assert np.ptp(values[:, i][~outside]) > 0
        assert set(np.unique(store.read(name, "lesion"))) <= {0, 1}
        assert record.brain_voxels == [int((~slice_).sum()) for slice_ in outside]
        assert record.lesion_voxels == [int(slice_.sum()) for slice_ in store.read(name, "lesion")]


def test_adc_comes_back_to_the_file_it_was_read_from(shared_tree: Path, tmp_path: Path) -> None:
    """On the scanner's own spacing nothing is lost but half precision and what lies outside the brain."""
    image = nib.Nifti1Image.from_filename(isles_file(shared_tree, 5, "adc"))
    spacing = float(nib.affines.voxel_sizes(image.affine)[0])
    store, _ = _prepare(shared_tree, tmp_path / "store", Settings(spacing, (40, 48)), skip_invalid=True)
    geometry = store.records[NAMES[4]].geometry
    assert nib.aff2axcodes(image.affine) != ("R", "A", "S")
    adc = store.spec.target[1].scaling.decode(store.read(NAMES[4], "target")[:, 1].astype(np.float32))
    brain = geometry.from_grid(store.read(NAMES[4], "brain")) > 0.5
    expected = image.get_fdata().clip(0, 3000)
    assert brain.sum() > 1500
    assert np.abs(geometry.from_grid(adc) - expected)[brain].max() <= 3000 / 2 * HALF_ROUNDING + 1e-2
    assert (geometry.from_grid(adc)[~brain] == 0).all()


class Masked(Intensity):
    """Comes with a brain mask, so nobody looks for the brain in it."""

    def find_brain(self, volume: Volume) -> np.ndarray:
        raise AssertionError("the case brings a mask")


def test_a_given_brain_mask_is_used_and_values_follow_their_closed_form(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-0.2, 1.2, (20, 24, 3)).astype(np.float32)
    mask = np.zeros(values.shape, np.uint8)
    mask[3:17, 4:20] = 1
    save(tmp_path / "cases" / "p1" / "a.nii.gz", values)
    save(tmp_path / "cases" / "p1" / "b.nii.gz", values + 1)
    save(tmp_path / "cases" / "p1" / "mask.nii.gz", mask)
    save(tmp_path / "cases" / "p1" / "lesion.nii.gz", mask * (values > 1))
    task = Task({"a": Masked(0, 1)}, {"b": Intensity(0, 2)})
    store, _ = prepare(tmp_path / "cases", tmp_path / "store", task, CaseFolders(), Settings(2.0, (20, 24)), workers=1)

    ras = {key: np.moveaxis(array[::-1], 2, 0) for key, array in (("values", values), ("mask", mask))}  # AFFINE is LAS
    assert AFFINE[0, 0] < 0
    inside = ras["mask"] > 0
    np.testing.assert_array_equal(store.read("p1", "brain"), inside)
    np.testing.assert_array_equal(store.read("p1", "lesion"), inside & (ras["values"] > 1))
    source = np.where(inside, 2 * ras["values"].clip(0, 1) - 1, -1)
    target = np.where(inside, (ras["values"] + 1).clip(0, 2) - 1, -1)
    np.testing.assert_allclose(store.read("p1", "source")[:, 0], source, atol=HALF_ROUNDING)
    np.testing.assert_allclose(store.read("p1", "target")[:, 0], target, atol=HALF_ROUNDING)


def test_dwi_of_another_gain_makes_the_same_store(tree: Path, shared_store: Path, tmp_path: Path) -> None:
    for index in range(1, CASES + 1):
        _scale(0.037)(isles_file(tree, index, "dwi"))
    store, _ = _prepare(tree, tmp_path / "store")
    for name in NAMES:
        np.testing.assert_allclose(
            store.read(name, "target").astype(np.float32),
            SliceStore(shared_store).read(name, "target").astype(np.float32),
            atol=2 * HALF_ROUNDING,
        )


@pytest.mark.slow
def test_several_processes_make_the_same_store_and_collect_the_same_faults(
    tree: Path, shared_store: Path, tmp_path: Path
) -> None:
    isles_file(tree, 6, "dwi").unlink()
    store, faults = prepare(tree, tmp_path / "store", TASK, ISLES24(), SETTINGS, workers=2, skip_invalid=True)
    assert list(store.records) == NAMES[:5]
    assert [fault.case for fault in faults] == [NAMES[5]]
    for name in NAMES[:5]:
        for kind in ("source", "target", "brain", "lesion"):
            np.testing.assert_array_equal(
                store.read(name, kind),  # type: ignore[arg-type]
                SliceStore(shared_store).read(name, kind),  # type: ignore[arg-type]
            )


def test_relative_dwi_is_one_in_normal_tissue_of_the_store(shared_store: Path) -> None:
    store = SliceStore(shared_store)
    for name in NAMES:
        dwi, adc = np.moveaxis(store.read(name, "target").astype(np.float32), 1, 0)
        normal = (store.read(name, "brain") > 0) & (np.abs(ApparentDiffusion().scaling.decode(adc) - 800) < 150)
        assert np.median(RelativeDWI().scaling.decode(dwi)[normal]) == pytest.approx(1.0, abs=0.1)
