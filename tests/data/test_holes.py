"""Frames and slices without image: found, left out and said, or refused."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctp_ldm.data.cases import Case
from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.holes import empty_slices, leave_out_empty, leave_out_lost, numbers
from ctp_ldm.data.layouts import CaseFolders
from ctp_ldm.data.loading import LoadedCase, load_case
from ctp_ldm.data.module import CTPToDiffusionMRI

from . import trees
from .files import volume

TASK, TIMES = CTPToDiffusionMRI().task, np.array([0.0, 1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13])
BRAIN = np.zeros((12, 12, 6), bool)
BRAIN[2:10, 2:10, 1:5] = True


def _series() -> np.ndarray:
    """A ramp of 1 HU a second in noise-free tissue of different levels; the first and last slice hold air alone."""
    levels = np.random.default_rng(0).uniform(20, 40, BRAIN.shape)
    series = np.where(BRAIN[..., None], levels[..., None] + TIMES, -1000.0).astype(np.float32)
    series[0, 0, 1:5] = -1010.0
    return series


Change = Callable[[np.ndarray], None]


def _empty(frames: object, slices: object = slice(None), value: float = 0.0) -> Change:
    def change(series: np.ndarray) -> None:
        for t in np.atleast_1d(np.arange(series.shape[-1])[frames]):  # type: ignore[call-overload]
            series[:, :, slices, t] = value

    return change


@pytest.mark.parametrize("value", [0.0, -1000.0, -1024.0, 3000.0])
@pytest.mark.parametrize(
    ("slices", "told"), [(2, "slices 3 from"), (slice(2, 5), "slices 3–5"), ([1, 4], "slices 2, 5")]
)
@pytest.mark.parametrize("frames", [[4], [3, 4, 5]])
def test_an_empty_slice_becomes_what_lies_between_its_neighbours_in_time(
    frames: list[int], slices: object, told: str, value: float
) -> None:
    series = _series()
    _empty(frames, slices, value)(series)
    found, (remark,) = leave_out_empty(volume(series, TIMES))
    np.testing.assert_allclose(found.values[BRAIN], _series()[BRAIN], atol=1e-4)
    assert told in remark
    assert f"frames {numbers(frames)} (" in remark


@pytest.mark.parametrize("frames", [[0], [5], [-1], [-3, -2, -1], [4, 5], slice(0, 4), slice(7, None)], ids=str)
def test_a_frame_without_image_is_left_out(frames: object) -> None:
    series = _series()
    _empty(frames)(series)
    found, (remark,) = leave_out_empty(volume(series, TIMES))
    left = np.delete(np.arange(len(TIMES)), frames)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.times, TIMES[left])
    np.testing.assert_array_equal(found.values[BRAIN], _series()[BRAIN][:, left])
    assert "(all slices) hold no image and are left out" in remark


def test_a_long_gap_within_the_scan_is_refused() -> None:
    series = _series()
    _empty(slice(3, 7))(series)
    with pytest.raises(DataFault, match=r"holds no image in frames 4–7 \(all slices\); expected at most 3 such"):
        leave_out_empty(volume(series, TIMES))


def test_slices_outside_the_head_are_no_holes() -> None:
    series = _series()
    found, remarks = leave_out_empty(volume(series, TIMES))
    assert remarks == []
    np.testing.assert_array_equal(found.values, _series())


def _noise(series: np.ndarray) -> None:
    series[:, :, 2, 6] = np.random.default_rng(1).normal(-700, 100, series.shape[:2])


def _rim_of_another_value(series: np.ndarray) -> None:
    """0 in the round field of view, the padding value outside."""
    series[:, :, 2, 6] = -2000
    series[1:11, 1:11, 2, 6] = 0


def _half_gone(series: np.ndarray) -> None:
    series[:6, :, 2, 6] = 0


def _zero_in_every_other_row(series: np.ndarray) -> None:
    series[::2, :, 2, 6] = 0


def _of_double_scale(series: np.ndarray) -> None:
    series[:, :, 2, 6] *= 2


def _of_half_scale(series: np.ndarray) -> None:
    series[:, :, 2, 6] *= 0.5


def _with_24_more(series: np.ndarray) -> None:
    series[:, :, 2, 6] += 24


@pytest.mark.parametrize(
    "damage",
    [
        _noise,
        _rim_of_another_value,
        _half_gone,
        _zero_in_every_other_row,
        _of_double_scale,
        _of_half_scale,
        _with_24_more,
    ],
)
def test_what_is_no_brain_in_a_frame_is_left_out(damage: Change) -> None:
    series = _series()
    damage(series)
    whole = volume(series, TIMES)
    assert leave_out_empty(whole)[1] == []
    found, remarks = leave_out_lost(whole, BRAIN)
    assert remarks == ["frames 7 (slices 3 from the feet) hold no image and are left out"]
    assert found.lost is not None
    np.testing.assert_array_equal(np.argwhere(found.lost), [[2, 6]])
    np.testing.assert_allclose(series[BRAIN], _series()[BRAIN], atol=1e-4)


@pytest.mark.parametrize(
    ("frames", "said"), [(slice(2, 6), "frames 3–6 (slice 3 from the feet)"), (slice(0, 7), "in 7 of 12 frames")]
)
def test_a_slice_of_the_brain_lost_for_long_is_refused(frames: slice, said: str) -> None:
    series = _series()
    _empty(frames, 2)(series)
    found, _ = leave_out_empty(volume(series, TIMES))
    with pytest.raises(DataFault, match=re.escape(said)):
        leave_out_lost(found, BRAIN)


def test_alternating_slabs_stored_with_empty_frames_between_are_bridged() -> None:
    series = _series()
    _empty(slice(0, None, 2), slice(1, 3))(series)
    _empty(slice(1, None, 2), slice(3, 5))(series)
    found, (remark,) = leave_out_empty(volume(series, TIMES))
    assert leave_out_lost(found, BRAIN)[1] == []
    inner = BRAIN & (np.arange(6) > 2)
    np.testing.assert_allclose(found.values[inner][:, :11], _series()[inner][:, :11], atol=1e-4)
    assert "slices 2–3 from the feet" in remark
    assert "slices 4–5 from the feet" in remark


def test_frames_are_counted_as_in_the_file_where_others_were_dropped_before() -> None:
    series = _series()
    _empty([1, 3])(series)
    _half_gone(series)
    found, (first,) = leave_out_empty(volume(series, TIMES))
    _, (second,) = leave_out_lost(found, BRAIN)
    assert first == "frames 2, 4 (all slices) hold no image and are left out"
    assert second == "frames 7 (slices 3 from the feet) hold no image and are left out"


def test_a_few_frames_of_another_scale_are_left_out() -> None:
    series = _series()
    series[..., 6:9] *= 1.6
    found, remarks = leave_out_lost(volume(series, TIMES), BRAIN)
    assert remarks == ["frames 7–9 (all slices) hold no image and are left out"]
    np.testing.assert_allclose(found.values[BRAIN], _series()[BRAIN], atol=1e-4)


def test_empty_slices_between_others_are_holes_and_those_at_the_ends_were_not_scanned() -> None:
    values = np.random.default_rng(0).normal(size=BRAIN.shape)
    values[:, :, [1, 3]] = 0
    assert empty_slices(values, BRAIN) == ([3], [1])
    assert empty_slices(np.zeros(BRAIN.shape), BRAIN) == ([], [1, 2, 3, 4])


# --------------------------------------------------------------------------------------------------------- whole cases


def _load(root: Path, change: Callable[[np.ndarray], np.ndarray], role: str = "ctp") -> LoadedCase:
    files = trees.case_folder(root, "p1")
    trees.write_case(files, trees.patient(1), trees.Encoding(interval=1.0))
    trees.changed(role, change)(files)
    case = Case("p1", {r: p for r, p in files.items() if r in TASK.roles})
    assert CaseFolders().cases(root, TASK.roles)[0].files == case.files
    return load_case(case, TASK)


def _with(value: float, *places: tuple[slice, int]) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        for slices, frame in places:
            values[:, :, slices, frame] = value
        return values

    return change


@pytest.mark.parametrize("value", [0.0, -1024.0])
def test_holes_in_a_series_change_the_source_by_no_more_than_noise(tmp_path: Path, value: float) -> None:
    places = (slice(3, 4), 2), (slice(3, 6), -1), (slice(0, 6), 20)
    whole = _load(tmp_path / "whole", lambda v: v)
    holed = _load(tmp_path / "holed", _with(value, *places))
    assert (whole.faults, whole.remarks, holed.faults) == ([], [], [])
    (remark,) = holed.remarks
    assert "3 (slices 4 from the feet)" in remark
    assert "21 (all slices)" in remark
    assert whole.brain is not None
    assert holed.brain is not None
    both = whole.brain & holed.brain
    assert both.sum() > 0.98 * whole.brain.sum()
    difference = (holed.values["ctp"] - whole.values["ctp"])[:, both]
    assert np.abs(difference.mean(axis=1)).max() < 0.2
    assert np.abs(np.median(difference, axis=1)).max() < 0.2


def test_a_first_frame_without_image_costs_neither_unit_nor_brain(tmp_path: Path) -> None:
    loaded = _load(tmp_path, _with(0.0, (slice(0, 6), 0)))
    assert loaded.faults == []
    assert loaded.facts["ctp"]["frames"] == trees.FRAMES - 1


@pytest.mark.parametrize("role", ["adc", "dwi"])
@pytest.mark.parametrize("place", [3, -1])
def test_an_image_without_a_slice_is_a_fault_or_a_remark(tmp_path: Path, role: str, place: int) -> None:
    def change(values: np.ndarray) -> np.ndarray:
        values[:, :, place] = 0
        return values

    loaded = _load(tmp_path, change, role)
    if place == 3:
        (fault,) = loaded.faults
        assert re.search(rf"{role}\.nii\.gz holds no image in slices 4 from the feet, between", fault)
    else:
        assert loaded.faults == []
        (remark,) = [r for r in loaded.remarks if "no image" in r]
        assert re.match(
            rf"{role}: holds no image in slices 6 from the feet, where the brain is: \d+ mL \(\d+%\)", remark
        )
