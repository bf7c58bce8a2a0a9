"""A 4D perfusion series of any length → the mean before contrast and a fixed number of phases."""

import numpy as np

from ctp_ldm.data.faults import DataFault


def baseline_and_phases(
    series: np.ndarray, times: np.ndarray, phases: int, interval: float, baseline: float
) -> tuple[np.ndarray, np.ndarray]:
    """Resample a series to phases at fixed times after its first frame.

    Args:
        series: (X, Y, Z, T) HU.
        times: (T,) seconds, increasing.
        phases: number of phases P, at `interval` · 1…P seconds after the first frame.
        interval: seconds between phases.
        baseline: frames of the first this many seconds count as taken before contrast.

    Returns:
        The mean before contrast (X, Y, Z), and the enhancement over it (P, X, Y, Z), both HU. Phases after the end of
        a short scan hold its last frame.

    Raises:
        DataFault: fewer than 8 frames, or a scan shorter than half of the phases' span.
    """
    seconds = times - times[0]
    span = phases * interval
    if len(seconds) < 8 or seconds[-1] < span / 2:
        raise DataFault(
            f"the perfusion series has {len(seconds)} frames over {seconds[-1]:.1f} s; expected at least 8 frames and "
            f"{span / 2:.1f} s: too short to see a bolus (if the times are wrong give --frame-interval)"
        )
    before = precontrast(series, times, baseline)
    enhancement = np.empty((phases, *series.shape[:3]), dtype=np.float32)
    for phase, time in enumerate(np.clip(interval * np.arange(1, phases + 1), 0.0, seconds[-1])):
        right = int(np.clip(np.searchsorted(seconds, time), 1, len(seconds) - 1))
        share = (time - seconds[right - 1]) / (seconds[right] - seconds[right - 1])
        enhancement[phase] = (1 - share) * series[..., right - 1] + share * series[..., right] - before
    return before, enhancement


def precontrast(series: np.ndarray, times: np.ndarray, baseline: float) -> np.ndarray:
    """(X, Y, Z) float32: the mean of the frames within `baseline` seconds of the first, before contrast arrives."""
    return np.asarray(series[..., times - times[0] <= baseline].mean(axis=-1), dtype=np.float32)
