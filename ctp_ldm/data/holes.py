"""Frames and slices of a series that hold no image: left out and said, or refused."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.volumes import Volume

LONGEST_GAP = 3
"""Frames in a row that interpolation may bridge."""
LEAST_SEEN = 0.5
LEAST_VOXELS = 16
"""A slice with less of the brain is not judged."""
AIR_HU, LEVEL_HU, GONE = -200.0, 50.0, 0.1
_LOOKED_AT, _NAMED = 4000, 6


def leave_out_empty(volume: Volume) -> tuple[Volume, list[str]]:
    """Drop frames without any image from a series, and fill slices of one value from the frames beside them.

    Works in any unit, before brain and unit are known. A slice of one value in most frames lies outside the head; one
    that is empty in more than three frames in a row is left as it is, for `leave_out_lost` to judge. A slice filled
    linearly in time gives the phases that leaving its frame out would give. Values change in place.

    Returns:
        The series, and what to say: a remark, or nothing.

    Raises:
        DataFault: more than three frames in a row are empty, other than before the first and after the last image.
    """
    values = volume.values
    assert volume.times is not None
    empty = values.max(axis=(0, 1)) == values.min(axis=(0, 1))  # (Z, T)
    imaged = empty.mean(axis=1) <= 1 - LEAST_SEEN
    lost = empty & imaged[:, None]
    if not lost.any():
        return volume, []
    whole = lost[imaged].all(axis=0)
    seen = np.flatnonzero(~whole)
    _require_bridgeable(volume.path, whole[seen[0] : seen[-1] + 1], "all slices", int(seen[0]))
    for z in np.flatnonzero(lost.any(axis=1)):
        for start, end in _runs(lost[z] & ~whole):
            lost[z, start:end] = end - start <= LONGEST_GAP
    if not lost.any():
        return volume, []
    remarks = [_told(lost, imaged)]
    if whole.any():
        timing = None if volume.timing is None else replace(volume.timing, times=volume.times[seen])
        for place, t in enumerate(seen):
            values[..., place] = values[..., t]
        volume = replace(volume, values=values[..., : len(seen)], times=volume.times[seen], timing=timing)
        lost = lost[:, seen]
    _fill(volume, lost)
    return volume, remarks


def leave_out_lost(volume: Volume, brain: np.ndarray) -> list[str]:
    """Find frames in which a slice of the brain is missing or something else, and fill them from the frames beside.

    That is a slice of one value in the brain, or whose median lies more than 50 HU from the slice's usual one, or that
    has lost (0 or air) a tenth more of its brain than it usually has. Values change in place.

    Args:
        volume: a series in HU.
        brain: (X, Y, Z) bool.

    Returns:
        What to say: a remark, or nothing.

    Raises:
        DataFault: a slice is lost in more than three frames in a row, or in more than half of them.
    """
    assert volume.times is not None
    frames = len(volume.times)
    lost = np.zeros((volume.values.shape[2], frames), bool)
    for z in np.flatnonzero(brain.sum(axis=(0, 1)) >= LEAST_VOXELS):
        inside = volume.values[:, :, z][brain[:, :, z]]
        inside = inside[:: max(1, len(inside) // _LOOKED_AT)]  # (N, T)
        gone = ((inside == 0) | (inside < AIR_HU)).mean(axis=0)
        level = np.median(inside, axis=0)
        lost[z] = (
            (inside.max(axis=0) == inside.min(axis=0))
            | (np.abs(level - np.median(level)) > LEVEL_HU)
            | (gone - np.median(gone) > GONE)
        )
        if lost[z].all():
            lost[z] = False  # nothing was scanned there in any frame, which is not a matter of frames
        if lost[z].mean() > LEAST_SEEN:
            raise DataFault(
                f"{volume.path} holds no brain in slice {z + 1} from the feet in {lost[z].sum()} of {frames} "
                "frames; expected an image in most of them: convert the series again, or leave the case out"
            )
        _require_bridgeable(volume.path, lost[z], f"slice {z + 1} from the feet", 0)
    if not lost.any():
        return []
    _fill(volume, lost)
    return [_told(lost, np.ones(len(lost), bool))]


def empty_slices(values: np.ndarray, brain: np.ndarray) -> tuple[list[int], list[int]]:
    """Slices of the brain in which an image has one value alone, from 0.

    Args:
        values: (X, Y, Z) or (X, Y, Z, T).
        brain: (X, Y, Z) bool.

    Returns:
        Those between slices with an image, which are holes; and those above or below, which were not scanned.
    """
    judged = np.flatnonzero(brain.sum(axis=(0, 1)) >= LEAST_VOXELS)
    empty = [int(z) for z in judged if np.ptp(values[:, :, z][brain[:, :, z]]) == 0]
    imaged = [int(z) for z in judged if z not in empty]
    holes = [z for z in empty if imaged and imaged[0] < z < imaged[-1]]
    return holes, [z for z in empty if z not in holes]


def numbers(indices: Iterable[int]) -> str:
    """0, 1, 2, 5 → "1–3, 6"."""
    runs: list[list[int]] = []
    for i in sorted(indices):
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ", ".join(f"{a + 1}" if a == b else f"{a + 1}–{b + 1}" for a, b in runs)


def _require_bridgeable(path: Path, lost: np.ndarray, where: str, first: int) -> None:
    for start, end in _runs(lost):
        if end - start > LONGEST_GAP:
            raise DataFault(
                f"{path} holds no image in frames {numbers(range(first + start, first + end))} ({where}); expected at "
                f"most {LONGEST_GAP} such frames in a row, which interpolation can bridge: convert the series again, "
                "or leave the case out"
            )


def _runs(lost: np.ndarray) -> list[tuple[int, int]]:
    """First place, and the one after the last, of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _fill(volume: Volume, lost: np.ndarray) -> None:
    """Lost slices (Z, T) become what lies linearly between the frames beside, or the nearest frame at the ends."""
    times, values = volume.times, volume.values
    assert times is not None
    for z, t in np.argwhere(lost):
        seen = np.flatnonzero(~lost[z])
        after = int(np.searchsorted(seen, t))
        if after in (0, len(seen)):
            values[:, :, z, t] = values[:, :, z, seen[min(after, len(seen) - 1)]]
            continue
        left, right = seen[after - 1], seen[after]
        share = np.float32((times[t] - times[left]) / (times[right] - times[left]))
        values[:, :, z, t] = (1 - share) * values[:, :, z, left] + share * values[:, :, z, right]


def _told(lost: np.ndarray, imaged: np.ndarray) -> str:
    """What is left out, by frames of the same slices."""
    slices: dict[tuple[int, ...], list[int]] = {}
    for t in np.flatnonzero(lost.any(axis=0)):
        slices.setdefault(tuple(np.flatnonzero(lost[:, t])), []).append(int(t))
    whole = tuple(np.flatnonzero(imaged))
    said = [
        f"{numbers(frames)} ({'all slices' if where == whole else f'slices {numbers(where)} from the feet'})"
        for where, frames in slices.items()
    ]
    more = f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return f"frames {'; '.join(said[:_NAMED])}{more} hold no image and are left out"
