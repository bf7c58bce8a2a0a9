"""Bolus and phases of a series whose slices may have times of their own, and may be lost in some frames."""

from collections.abc import Iterator

import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.holes import numbers
from ctp_ldm.data.phases import Bolus, find_bolus, mean_curve, phase_weights, relative_noise
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
    offsets = _offsets(volume)
    if not offsets.any():
        return find_bolus(mean_curve(volume.values, brain), times)
    judged = np.flatnonzero(brain.any(axis=(0, 1)))
    clock = times + (offsets[judged].min() + offsets[judged].max()) / 2
    curve = np.zeros(len(times))
    for z in judged:
        inside = volume.values[:, :, z][brain[:, :, z]]
        curve += np.interp(clock, times + offsets[z], inside.sum(axis=0, dtype=np.float64))
    return find_bolus(curve / brain.sum(), clock)


def series_phases(volume: Volume, bolus: Bolus, phases: int, interval: float) -> np.ndarray:
    """The mean before contrast and the phases after it (`phase_weights`), by each slice's own times and frames.

    Slice by slice, so that of a large series no copy is made.

    Args:
        volume: (X, Y, Z, T) HU.
        bolus: when contrast comes.
        phases: number of phases P.
        interval: seconds between them.

    Returns:
        (1 + P, X, Y, Z) float32 HU.

    Raises:
        DataFault: as `phase_weights`, for slices that have no times or frames of their own but a scan's.
    """
    made = np.empty((1 + phases, *volume.values.shape[:3]), np.float32)
    for slices, weights in _weights(volume, bolus, phases, interval):
        for z in slices:
            made[..., z] = np.tensordot(weights.astype(np.float32), volume.values[:, :, z], axes=(1, 2))
    return made


def series_noise(volume: Volume, bolus: Bolus, phases: int, interval: float) -> np.ndarray:
    """(P,) SD of each phase of `series_phases` in units of one frame's, the share of the mean before contrast included.

    The square mean over slices.
    """
    groups = list(_weights(volume, bolus, phases, interval))
    squares = sum(len(slices) * relative_noise(weights[1:]) ** 2 for slices, weights in groups)
    return np.asarray(np.sqrt(squares / volume.values.shape[2]))


def _weights(volume: Volume, bolus: Bolus, phases: int, interval: float) -> Iterator[tuple[list[int], np.ndarray]]:
    """Slices with the same times and frames, and what the frames count there (1 + P, T)."""
    times, offsets = _times(volume), _offsets(volume)
    lost = np.zeros((len(offsets), len(times)), bool) if volume.lost is None else volume.lost
    groups: dict[tuple[float, bytes], list[int]] = {}
    for z, offset in enumerate(offsets):
        groups.setdefault((float(offset), lost[z].tobytes()), []).append(z)
    for (offset, _), slices in sorted(groups.items()):
        seen = ~lost[slices[0]]
        weights = np.zeros((1 + phases, len(times)))
        try:
            weights[:, seen] = phase_weights(times[seen] + offset, bolus.arrival, phases, interval)
        except DataFault as error:
            where = "" if len(groups) == 1 else f"slices {numbers(slices)} from the feet: "
            raise DataFault(f"{where}{error}") from error
        yield slices, weights


def _times(volume: Volume) -> np.ndarray:
    if volume.times is None:
        raise ValueError(f"{volume.path} was read without frame times")
    return volume.times


def _offsets(volume: Volume) -> np.ndarray:
    """(Z,) seconds by which a slice is later than its frame."""
    own = None if volume.timing is None else volume.timing.offsets
    return np.zeros(volume.values.shape[2]) if own is None else own
