"""A 4D perfusion series of any length and timing → the mean before contrast and phases placed by the bolus."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from ctp_ldm.data.faults import DataFault

FRAMES = 8
LONGEST_S = 600.0
ONSET = 0.1
LEAST_HU = 1.0
LEAST_OVER_NOISE = 5.0
BEFORE_ONSET_S = 2.0
STEP_S = 0.05
SMOOTH_S = 1.0


@dataclass(frozen=True)
class Bolus:
    """When contrast passes through the brain, seconds on the clock of the frame times.

    arrival: when the brain's mean has risen by 10 % of its peak.
    peak: when the mean is highest.
    enhancement: that peak over the mean before contrast, HU.
    before: (T,) bool, the frames that count as before contrast.
    """

    arrival: float
    peak: float
    enhancement: float
    before: np.ndarray


def find_bolus(curve: np.ndarray, times: np.ndarray) -> Bolus:
    """Find the bolus in the brain's mean curve.

    The mean over some 100 000 voxels has hardly any noise; a threshold relative to its peak does not depend on dose or
    scanner. Large arteries fill before the mean has risen by 10 %, so frames within 2 s of the arrival do not count as
    before contrast.

    Args:
        curve: (T,) HU.
        times: (T,) seconds, increasing.

    Raises:
        DataFault: fewer than 8 frames or more than 600 s; no bolus seen (less than 1 HU, or less than 5 times the
            frame-to-frame noise); no frame before contrast; the scan ends before the peak.
    """
    seconds = float(times[-1] - times[0])
    scan = f"{len(times)} frames over {seconds:.1f} s"
    if len(times) < FRAMES or seconds > LONGEST_S:
        raise DataFault(
            f"the perfusion series has {scan}; expected at least {FRAMES} frames within {LONGEST_S:.0f} s (if the "
            "times are wrong give data.frame_interval)"
        )
    # In steps of time, not of frames: scans of other intervals then have the same arrival.
    fine = np.arange(0.0, seconds, STEP_S)
    smooth = gaussian_filter1d(PchipInterpolator(times - times[0], curve)(fine), SMOOTH_S / STEP_S, mode="nearest")
    top = int(smooth.argmax())
    base, onset = float(smooth[: max(1, top)].min()), 0
    # The level before contrast and the onset depend on each other; from the lowest level they settle at once.
    for _ in range(4):
        below = np.flatnonzero(smooth[: top + 1] <= base + ONSET * (smooth[top] - base))
        onset = int(below[-1]) if below.size else 0
        base = float(np.median(smooth[: onset + 1]))
    noise = 1.4826 * float(np.median(np.abs(np.diff(curve, 2)))) / np.sqrt(6)
    enhancement = float(smooth[top] - base)
    least = max(LEAST_HU, LEAST_OVER_NOISE * noise)
    if enhancement < least:
        raise DataFault(
            f"no bolus is seen in {scan}: the brain's mean rises by {enhancement:.2f} HU over {base:.1f} HU; expected "
            f"at least {least:.2f} HU: contrast came after the scan, or before it"
        )
    if top == len(fine) - 1:
        raise DataFault(f"the scan ends before the bolus has passed: the brain's mean still rises at the end of {scan}")
    share = (base + ONSET * enhancement - smooth[onset]) / (smooth[onset + 1] - smooth[onset])
    arrival = float(times[0] + fine[onset] + STEP_S * np.clip(share, 0, 1))
    before = times <= arrival - BEFORE_ONSET_S
    if not before.any():
        raise DataFault(
            f"no frame before contrast in {scan}: the bolus arrives {arrival - times[0]:.1f} s after the first frame; "
            f"expected at least {BEFORE_ONSET_S:.0f} s"
        )
    return Bolus(arrival, float(times[0] + fine[top]), enhancement, before)


def baseline_and_phases(
    series: np.ndarray, times: np.ndarray, bolus: Bolus, phases: int, interval: float
) -> tuple[np.ndarray, np.ndarray]:
    """Resample a series to phases at fixed times after the bolus arrives, so that early and late scans line up.

    Args:
        series: (X, Y, Z, T) HU.
        times: (T,) seconds, increasing.
        bolus: when contrast comes.
        phases: number of phases P, at `interval` · 0…P − 1 seconds after arrival.
        interval: seconds between phases.

    Returns:
        The mean before contrast (X, Y, Z), and the enhancement over it (P, X, Y, Z), both HU, linear between frames.
        Phases after the end of a short scan hold its last frame.

    Raises:
        DataFault: the scan ends before half of the phases' span after arrival.
    """
    left, half = float(times[-1]) - bolus.arrival, phases * interval / 2
    if left < half:
        raise DataFault(
            f"the scan ends {left:.1f} s after the bolus arrives (at {bolus.arrival - times[0]:.1f} of "
            f"{times[-1] - times[0]:.1f} s); expected at least {half:.1f} s, half of {phases} phases of {interval:g} s"
        )
    before = series[..., bolus.before].mean(axis=-1, dtype=np.float32)
    enhancement = np.empty((phases, *series.shape[:3]), dtype=np.float32)
    for phase, time in enumerate(np.minimum(bolus.arrival + interval * np.arange(phases), times[-1])):
        right = int(np.clip(np.searchsorted(times, time), 1, len(times) - 1))
        share = np.float32((time - times[right - 1]) / (times[right] - times[right - 1]))
        enhancement[phase] = (1 - share) * series[..., right - 1] + share * series[..., right] - before
    return before, enhancement


def mean_curve(series: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """(T,) mean of each frame of (X, Y, Z, T) in the brain (X, Y, Z)."""
    return np.array([series[..., t][brain].mean(dtype=np.float64) for t in range(series.shape[-1])])
