"""Frames and slices of a series that hold no image, or a copied one: left out and said, or refused."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import median_filter

from ctp_ldm.data.copies import copied_frames
from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.volumes import Volume

LONGEST_GAP = 3
"""Frames in a row that interpolation may bridge."""
LEAST_SEEN = 0.5
LEAST_VOXELS = 16
"""A slice with less of the brain is not judged."""
AIR_HU, LEVEL_HU, JUMP_HU, GONE = -200.0, 50.0, 15.0, 0.1
_LOOKED_AT, _AROUND, _NAMED = 4000, 7, 6


def leave_out_empty(volume: Volume) -> tuple[Volume, list[str]]:
    """Drop frames without any image from a series, and fill slices of one value from the frames beside them.

    Works in any unit, before brain and unit are known. A slice of one value in most frames lies outside the head; one
    that is empty in more than three frames in a row is left as it is, for `leave_out_lost` to judge. Lost slices are
    marked (`Volume.lost`), so that no phase counts them, and filled linearly in time for what looks at whole frames.
    Values change in place.

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
    _require_bridgeable(volume.path, whole[seen[0] : seen[-1] + 1], "all slices", np.arange(seen[0], len(whole)))
    for z in np.flatnonzero(lost.any(axis=1)):
        for start, end in _runs(lost[z] & ~whole):
            lost[z, start:end] = end - start <= LONGEST_GAP
    if not lost.any():
        return volume, []
    remarks = [_told(lost, imaged, "hold no image")]
    if whole.any():
        timing = None if volume.timing is None else replace(volume.timing, times=volume.times[seen])
        for to, t in enumerate(seen):  # in place: a series may fill half of the memory
            if to != t:
                values[..., to] = values[..., t]
        volume = replace(volume, values=values[..., : len(seen)], times=volume.times[seen], timing=timing, frames=seen)
        lost = lost[:, seen]
    volume = replace(volume, lost=lost)
    _fill(volume)
    return volume, remarks


def leave_out_lost(volume: Volume, brain: np.ndarray) -> tuple[Volume, list[str]]:
    """Find frames in which a slice of the brain is missing, something else or a copy, and mark and fill them.

    Missing or something else: of one value in the brain; or the median lies more than 50 HU from the slice's usual
    one, or more than 15 HU from that of the seven frames around, as in another scale; or a tenth more of the brain
    than usual is gone (0 or air). Copies: `copied_frames`. Values change in place.

    Args:
        volume: a series in HU.
        brain: (X, Y, Z) bool.

    Returns:
        The series, and what to say: a remark for each kind, or nothing.

    Raises:
        DataFault: a slice is lost in more than three frames in a row, or in more than half of them.
    """
    assert volume.times is not None
    slices, frames = volume.values.shape[2], len(volume.times)
    before = np.zeros((slices, frames), bool) if volume.lost is None else volume.lost
    lost, copied = np.zeros_like(before), np.zeros_like(before)
    judged = np.flatnonzero(brain.sum(axis=(0, 1)) >= LEAST_VOXELS)
    for z in judged:
        inside = volume.values[:, :, z][brain[:, :, z]]
        inside = inside[:: max(1, len(inside) // _LOOKED_AT)]  # (N, T)
        lost[z] = _is_no_brain(inside)
        if lost[z].all():
            lost[z] = False  # nothing was scanned there in any frame, which is not a matter of frames
        seen = ~(lost[z] | before[z])
        copied[z, seen] = copied_frames(inside[:, seen])
        if (lost[z] | copied[z]).any():
            _require_seen(volume, before[z] | lost[z], copied[z], int(z))
    if not (lost | copied).any():
        return volume, []
    volume = replace(volume, lost=before | lost | copied)
    _fill(volume)
    whole = np.isin(np.arange(slices), judged)
    return volume, [
        _told(kind, whole, what, volume.frames)
        for kind, what in ((lost, "hold no image"), (copied, "only repeat or average the frames beside them"))
        if kind.any()
    ]


def _is_no_brain(inside: np.ndarray) -> np.ndarray:
    """(T,) bool: the frames in which a slice's brain (N, T) is missing or something else."""
    gone = ((inside == 0) | (inside < AIR_HU)).mean(axis=0)
    level = np.median(inside, axis=0)
    jump = np.abs(level - median_filter(level, _AROUND, mode="nearest"))
    return np.asarray(
        (inside.max(axis=0) == inside.min(axis=0))
        | (np.abs(level - np.median(level)) > LEVEL_HU)
        | (jump > JUMP_HU)
        | (gone - np.median(gone) > GONE)
    )


def _require_seen(volume: Volume, lost: np.ndarray, copied: np.ndarray, z: int) -> None:
    """Refuse a slice of which too little is left by lost and copied frames (T,)."""
    path, where, left_out = volume.path, f"slice {z + 1} from the feet", lost | copied
    places = np.arange(len(lost)) if volume.frames is None else volume.frames
    if left_out.mean() > LEAST_SEEN:
        what = "holds no brain" if not copied.any() else "holds no brain or copies of other frames"
        raise DataFault(
            f"{path} {what} in {where} in {left_out.sum()} of {len(lost)} frames; expected an image in most of them: "
            "convert the series again, or leave the case out"
        )
    _require_bridgeable(path, lost, where, places)
    # Repeated to fill up a scan that ended sooner, frames bridge nothing.
    last = int(np.flatnonzero(~left_out)[-1])
    _require_bridgeable(path, left_out[: last + 1], f"{where}, copies of other frames among them", places)


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


def _require_bridgeable(path: Path, lost: np.ndarray, where: str, places: np.ndarray) -> None:
    for start, end in _runs(lost):
        if end - start > LONGEST_GAP:
            raise DataFault(
                f"{path} holds no image in frames {numbers(places[start:end].tolist())} ({where}); expected at "
                f"most {LONGEST_GAP} such frames in a row, which interpolation can bridge: convert the series again, "
                "or leave the case out"
            )


def _runs(lost: np.ndarray) -> list[tuple[int, int]]:
    """First place, and the one after the last, of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _fill(volume: Volume) -> None:
    """Lost slices become what lies linearly between the frames beside, or the nearest frame at the ends."""
    times, values, lost = volume.times, volume.values, volume.lost
    assert times is not None
    assert lost is not None
    for z, t in np.argwhere(lost):
        seen = np.flatnonzero(~lost[z])
        after = int(np.searchsorted(seen, t))
        if after in (0, len(seen)):
            values[:, :, z, t] = values[:, :, z, seen[min(after, len(seen) - 1)]]
            continue
        left, right = seen[after - 1], seen[after]
        share = np.float32((times[t] - times[left]) / (times[right] - times[left]))
        values[:, :, z, t] = (1 - share) * values[:, :, z, left] + share * values[:, :, z, right]


def _told(lost: np.ndarray, imaged: np.ndarray, what: str, places: np.ndarray | None = None) -> str:
    """Which frames are left out and why, by frames of the same slices, as the file counts them."""
    slices: dict[tuple[int, ...], list[int]] = {}
    for t in np.flatnonzero(lost.any(axis=0)):
        slices.setdefault(tuple(np.flatnonzero(lost[:, t])), []).append(int(t if places is None else places[t]))
    whole = tuple(np.flatnonzero(imaged))
    said = [
        f"{numbers(frames)} ({'all slices' if where == whole else f'slices {numbers(where)} from the feet'})"
        for where, frames in slices.items()
    ]
    more = f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return f"frames {'; '.join(said[:_NAMED])}{more} {what} and are left out"
