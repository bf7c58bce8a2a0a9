"""Bolus and phases of a series whose slices were taken at times of their own."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.holes import numbers
from ctp_ldm.data.phases import BEFORE_ONSET_S, Bolus, baseline_and_phases, find_bolus, mean_curve
from ctp_ldm.data.volumes import Volume


def series_bolus(volume: Volume, brain: np.ndarray) -> Bolus:
    """When contrast passes through the brain.

    Where slices have their own times, each one's curve is brought to one clock, half-way between the earliest and the
    latest slice, and they count by their brain.

    Args:
        volume: (X, Y, Z, T) HU.
        brain: (X, Y, Z) bool.

    Raises:
        DataFault: as `find_bolus`.
    """
    times = _times(volume)
    if _offsets(volume) is None:
        return find_bolus(mean_curve(volume.values, brain), times)
    groups = [(offset, slices) for offset, slices in _groups(volume) if brain[:, :, slices].any()]
    clock = times + (groups[0][0] + groups[-1][0]) / 2
    curve, voxels = np.zeros(len(times)), 0
    for offset, slices in groups:
        inside = brain[:, :, slices]
        own = mean_curve(volume.values[:, :, slices], inside)
        curve += inside.sum() * np.interp(clock, times + offset, own)
        voxels += int(inside.sum())
    return find_bolus(curve / voxels, clock)


def series_phases(volume: Volume, bolus: Bolus, phases: int, interval: float) -> tuple[np.ndarray, np.ndarray]:
    """The mean before contrast and the phases (`baseline_and_phases`), each slice by its own times.

    Raises:
        DataFault: as `baseline_and_phases`; a slice has no frame before contrast.
    """
    times = _times(volume)
    if _offsets(volume) is None:
        return baseline_and_phases(volume.values, times, bolus, phases, interval)
    shape = volume.values.shape[:3]
    before, enhancement = np.empty(shape, np.float32), np.empty((phases, *shape), np.float32)
    for offset, slices in _groups(volume):
        own = times + offset
        early = replace(bolus, before=own <= bolus.arrival - BEFORE_ONSET_S)
        if not early.before.any():
            raise DataFault(
                f"no frame before contrast in slices {numbers(slices)} from the feet, which SliceTiming has {offset:g} "
                f"s later than the first: the bolus arrives {bolus.arrival - own[0]:.1f} s after their first frame; "
                f"expected at least {BEFORE_ONSET_S:.0f} s"
            )
        made = baseline_and_phases(volume.values[:, :, slices], own, early, phases, interval)
        before[:, :, slices], enhancement[:, :, :, slices] = made
    return before, enhancement


def _times(volume: Volume) -> np.ndarray:
    if volume.times is None:
        raise ValueError(f"{volume.path} was read without frame times")
    return volume.times


def _offsets(volume: Volume) -> np.ndarray | None:
    return None if volume.timing is None else volume.timing.offsets


def _groups(volume: Volume) -> Iterator[tuple[float, list[int]]]:
    """Slices that were taken together, earliest first, and how many seconds after the first."""
    offsets = _offsets(volume)
    assert offsets is not None
    for offset in np.unique(offsets):
        yield float(offset), [int(z) for z in np.flatnonzero(offsets == offset)]
