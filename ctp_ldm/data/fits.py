"""The weights of a series' frames in the fit of a line about one time."""

import numpy as np

LEAST_WINDOW_S = 1e-6


def fit_weights(times: np.ndarray, at: float, interval: float) -> np.ndarray:
    """How much each frame counts in the value at a time, by a line fitted to what was seen around it.

    The line is fitted by least squares over time, not over frames, to the curve that runs straight from frame to frame
    (local linear regression: Fan and Gijbels 1996, section 2.3). So dense frames do not outvote sparse ones, a curve
    that is linear comes out exactly, and nothing is shifted in time. In a symmetric window the line's value is the
    curve's mean; no weight is negative, and the noise never more than a frame's.

    The window is as wide as the phases are apart, or as the frames around `at` where those are further apart. Windows
    of phases then lie edge to edge: nothing between is left out, and nothing counts twice. In it all times count alike:
    of windows that leave nothing out this one flattens a peak the least. Towards the ends of a scan it narrows down to
    one frame: the end of a line fitted to one side would hardly be less noisy, and where frames are irregular more so.

    Args:
        times: (T,) seconds, increasing, at least two.
        at: seconds, within the scan.
        interval: seconds between phases.

    Returns:
        (T,) weights, none below 0, with sum 1 and mean time `at`.
    """
    left = max(int(np.searchsorted(times, at, "left")) - 1, 0)
    right = min(int(np.searchsorted(times, at, "right")), len(times) - 1)
    width = max(interval, float(np.diff(times[left : right + 1]).max()))
    half = max(min(width / 2, at - float(times[0]), float(times[-1]) - at), LEAST_WINDOW_S)
    # Between knots the curve is straight, and its middle is its mean.
    knots = np.array([at - half, *times[(at - half < times) & (times < at + half)], at + half])
    middles, shares = (knots[:-1] + knots[1:]) / 2, np.diff(knots) / (knots[-1] - knots[0])
    after = np.searchsorted(times, middles).clip(1, len(times) - 1)
    place = ((middles - times[after - 1]) / (times[after] - times[after - 1])).clip(0, 1)
    weights = np.zeros(len(times))
    np.add.at(weights, after, shares * place)
    np.add.at(weights, after - 1, shares * (1 - place))
    return weights
