"""The weights of a series' frames in the fit of a line about one time."""

import numpy as np


def fit_weights(times: np.ndarray, at: float, interval: float) -> np.ndarray:
    """How much each frame counts in the value at a time, by a line fitted to what was seen around it.

    The line is fitted by least squares over time, not over frames, to the curve that runs straight from frame to frame
    (local linear regression: Fan and Gijbels 1996, section 2.3). So dense frames do not outvote sparse ones, a curve
    that is linear comes out exactly, and nothing is shifted in time. Within the scan the window is symmetric, the
    value the curve's mean over it, and no weight is negative.

    The window is as wide as the phases are apart, or as the frames around `at` where those are further apart. Windows
    of phases then lie edge to edge: nothing between is left out, and nothing counts twice. In it all times count alike:
    of windows that leave nothing out this one flattens a peak the least. At the ends it is cut off by the scan.

    Args:
        times: (T,) seconds, increasing, at least two.
        at: seconds, within the scan.
        interval: seconds between phases.

    Returns:
        (T,) weights with sum 1 and mean time `at`.
    """
    left = max(int(np.searchsorted(times, at, "left")) - 1, 0)
    right = min(int(np.searchsorted(times, at, "right")), len(times) - 1)
    half = max(interval, float(np.diff(times[left : right + 1]).max())) / 2
    start, end = max(float(times[0]), at - half), min(float(times[-1]), at + half)
    # Between knots hat functions and fit are linear, and Simpson's rule integrates their product exactly.
    knots = np.array([start, *times[(start < times) & (times < end)], end])
    nodes = np.stack([knots[:-1], (knots[:-1] + knots[1:]) / 2, knots[1:]])
    simpson = np.array([[1.0], [4.0], [1.0]]) / 6 * np.diff(knots)
    # What the curve at each moment adds to the line's value at `at`.
    length, middle = end - start, (start + end) / 2
    added = simpson * (1 / length + 12 * (at - middle) * (nodes - middle) / length**3)
    after = np.searchsorted(times, nodes).clip(1, len(times) - 1)
    share = (nodes - times[after - 1]) / (times[after] - times[after - 1])
    weights = np.zeros(len(times))
    np.add.at(weights, after, added * share)
    np.add.at(weights, after - 1, added * (1 - share))
    return weights
