"""Frames that repeat or average their neighbours: found by their lack of noise, left out and said, or refused."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctp_ldm.data.cases import Case
from ctp_ldm.data.copies import copied_frames
from ctp_ldm.data.loading import LoadedCase, load_case
from ctp_ldm.data.module import CTPToDiffusionMRI

from . import trees

TASK = CTPToDiffusionMRI().task
FRAMES = 40


def _curves(seed: int, noise: float, voxels: int = 300, interval: float = 1.0, whole: bool = False) -> np.ndarray:
    """(N, T) HU of tissue, 3 % of it arteries of up to 300 HU."""
    rng = np.random.default_rng(seed)
    height = np.where(np.arange(voxels) % 33 == 0, rng.uniform(50, 300, voxels), rng.uniform(1, 10, voxels))
    rise = np.where(np.arange(voxels) % 33 == 0, 4.5, 7.0)
    late = np.clip(np.arange(FRAMES) * interval - 10, 0, None) / rise[:, None]
    curves = rng.uniform(20, 40, (voxels, 1)) + height[:, None] * late**3 * np.exp(3 - 3 * late)
    curves = curves + rng.normal(0, noise, curves.shape)
    return np.round(curves).astype(np.float32) if whole else curves.astype(np.float32)


@settings(deadline=None)
@given(
    seed=st.integers(0, 999),
    noise=st.floats(0.5, 20),
    voxels=st.sampled_from([16, 100, 400]),
    interval=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
)
def test_frames_of_their_own_are_no_copies(seed: int, noise: float, voxels: int, interval: float) -> None:
    assert not copied_frames(_curves(seed, noise, voxels, interval)).any()


@settings(deadline=None)
@given(
    seed=st.integers(0, 999),
    noise=st.floats(2, 20),
    voxels=st.sampled_from([16, 300]),
    frames=st.sets(st.integers(1, FRAMES - 1), max_size=6),
)
def test_repeated_frames_are_found(seed: int, noise: float, voxels: int, frames: set[int]) -> None:
    curves = _curves(seed, noise, voxels)
    for t in sorted(frames):
        curves[:, t] = curves[:, t - 1]
    assert set(np.flatnonzero(copied_frames(curves))) == frames


@settings(deadline=None)
@given(seed=st.integers(0, 999), noise=st.floats(2, 20), whole=st.booleans(), frame=st.integers(1, FRAMES - 2))
def test_frames_half_way_between_are_found_in_whole_numbers_too(
    seed: int, noise: float, whole: bool, frame: int
) -> None:
    curves = _curves(seed, noise + 1, whole=whole)
    curves[:, frame] = (curves[:, frame - 1] + curves[:, frame + 1]) / 2
    curves = np.round(curves) if whole else curves
    assert list(np.flatnonzero(copied_frames(curves))) == [frame]


@pytest.mark.parametrize("between", [0.0, 0.5], ids=["repeated", "half-way"])
def test_a_series_blown_up_to_twice_its_frames_is_seen_through(between: float) -> None:
    curves = _curves(0, 5.0)
    curves[:, 1:-1:2] = (1 - between) * curves[:, :-2:2] + between * curves[:, 2::2]
    assert list(np.flatnonzero(copied_frames(curves))) == list(range(1, FRAMES - 1, 2))


@pytest.mark.parametrize("interval", [0.5, 1.0, 2.0, 3.0])
def test_where_no_noise_is_seen_nothing_is_a_copy(interval: float) -> None:
    curves = _curves(0, 0.0, interval=interval)
    assert (np.diff(curves, axis=1) == 0).all(axis=0).any()
    assert not copied_frames(curves).any()
    assert not copied_frames(np.full((50, FRAMES), 35.0, np.float32)).any()
    assert not copied_frames(np.zeros((50, 2), np.float32)).any()


# --------------------------------------------------------------------------------------------------------- whole cases


def _load(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> LoadedCase:
    files = trees.case_folder(root, "p1")
    trees.write_case(files, trees.patient(1), trees.Encoding(interval=1.0))
    trees.changed("ctp", change)(files)
    return load_case(Case("p1", {r: p for r, p in files.items() if r in TASK.roles}), TASK)


def _repeating(frames: list[int], slices: slice = slice(None)) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        for t in frames:
            values[:, :, slices, t] = values[:, :, slices, t - 1]
        return values

    return change


@pytest.mark.parametrize(
    ("frames", "slices", "told"),
    [
        ([3], slice(None), "frames 4 (all slices)"),
        ([13], slice(2, 4), "frames 14 (slices 3–4 from the feet)"),
        ([22, 23, 24], slice(None), "frames 23–25 (all slices)"),
        (list(range(34, 40)), slice(None), "frames 35–40 (all slices)"),
    ],
)
def test_repeated_frames_are_said_and_change_the_source_by_no_more_than_noise(
    tmp_path: Path, frames: list[int], slices: slice, told: str
) -> None:
    whole, repeated = _load(tmp_path / "whole", lambda v: v), _load(tmp_path / "repeated", _repeating(frames, slices))
    assert repeated.faults == []
    assert repeated.remarks == [f"ctp: {told} only repeat or average the frames beside them and are left out"]
    assert whole.brain is not None
    assert repeated.brain is not None
    inside = whole.brain & repeated.brain
    difference = (repeated.values["ctp"] - whole.values["ctp"])[:11, inside].mean(axis=1)
    assert np.abs(difference).max() < 0.3
    assert repeated.facts["ctp"]["noise"] > whole.facts["ctp"]["noise"]


def test_a_long_run_of_repeated_frames_within_the_scan_is_refused(tmp_path: Path) -> None:
    (fault,) = _load(tmp_path, _repeating([12, 13, 14, 15])).faults
    assert re.search(r"frames 13–16 \(slice \d from the feet, copies of other frames among them\)", fault)
