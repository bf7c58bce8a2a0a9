"""Frames that were not taken but made of the frames beside them: repeated, or set half-way between."""

import numpy as np

NOISY = 1.1
HALF_WAY = 0.2


def copied_frames(curves: np.ndarray) -> np.ndarray:
    """Find frames that fill a gap with the frame before, or with what lies half-way between the frames beside.

    Noise is never the same twice. A frame is a copy when its values are those of the frame before, bit by bit; or when
    nine tenths of them differ from the mean of both neighbours by less than a fifth of what they do in other frames,
    which leaves room for rounding. Series whose noise cannot be seen are left alone: in one that was computed without
    noise all frames before contrast are alike.

    Args:
        curves: (N, T) of voxels of the brain, in one unit.

    Returns:
        (T,) bool.
    """
    copied = np.zeros(curves.shape[1], bool)
    if curves.shape[1] < 3:
        return copied
    steps = np.diff(curves, axis=1)
    bends = np.diff(steps, axis=1)
    # White noise bends √3 times as much as it steps, and √1.5 times where every other frame is half-way; a curve of
    # blood less than once. Of voxels the median, because arteries step and bend by a hundred times what tissue does.
    step, bend = (float(np.median(np.square(d).mean(axis=1))) for d in (steps, bends))
    if not bend > NOISY**2 * step:
        return copied
    copied[1:] = ~steps.any(axis=0)
    size = np.quantile(np.abs(bends), 0.9, axis=0)
    copied[1:-1] |= size < HALF_WAY * np.quantile(size, 0.75)
    return copied
