"""When the bolus comes in a perfusion series of any length and timing, and what its frames count in the phases."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.fits import fit_weights

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


def phase_weights(times: np.ndarray, arrival: float, phases: int, interval: float) -> np.ndarray:
    """How much each frame counts in the mean before contrast, and in phases at fixed times after the bolus arrives.

    With phases by the bolus early and late scans line up. A phase is a local fit (`fit_weights`) less the mean before
    contrast. Phases after the end of a short scan hold its last frame.

    Args:
        times: (T,) seconds, increasing.
        arrival: when contrast comes, on the same clock.
        phases: number of phases P, at `interval` · 0…P − 1 seconds after arrival.
        interval: seconds between phases.

    Returns:
        (1 + P, T): the rows make of frames the mean before contrast, and the enhancement over it.

    Raises:
        DataFault: no frame 2 s before arrival; the scan ends before half of the phases' span after it.
    """
    before = times <= arrival - BEFORE_ONSET_S
    if not before.any():
        raise DataFault(
            f"no frame before contrast: the bolus arrives {arrival - times[0]:.1f} s after the first frame; expected "
            f"at least {BEFORE_ONSET_S:.0f} s"
        )
    left, half = float(times[-1]) - arrival, phases * interval / 2
    if left < half:
        raise DataFault(
            f"the scan ends {left:.1f} s after the bolus arrives (at {arrival - times[0]:.1f} of "
            f"{times[-1] - times[0]:.1f} s); expected at least {half:.1f} s, half of {phases} phases of {interval:g} s"
        )
    baseline = before / before.sum()
    ends = np.minimum(arrival + interval * np.arange(phases), times[-1])
    return np.stack([baseline, *(fit_weights(times, at, interval) - baseline for at in ends)])


def relative_noise(weights: np.ndarray) -> np.ndarray:
    """(…,) SD of what weights (…, T) make of frames, in units of one frame's, whose noise is independent."""
    return np.asarray(np.sqrt((weights**2).sum(axis=-1)))


def mean_curve(series: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """(T,) mean of each frame of (X, Y, Z, T) in the brain (X, Y, Z)."""
    return np.array([series[..., t][brain].mean(dtype=np.float64) for t in range(series.shape[-1])])
