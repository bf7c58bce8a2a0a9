"""Whether a CT was exported through a window, which cuts off everything above and below it."""

import numpy as np

LEAST_CUT = 0.02
"""Of what is denser than the outside: a skull is a tenth of a head, metal and noise are far less."""
ROUNDING = 1e-3


def cut_off_at(hu: np.ndarray) -> float | None:
    """The highest value, where so many voxels have it that what lies above was cut off.

    Args:
        hu: (X, Y, Z), any unit.

    Returns:
        The value; None where the file was not cut off, or is constant apart from its outside.
    """
    inside, high = hu[hu > hu.min()], float(hu.max())
    if not inside.size:
        return None
    step = ROUNDING * (high - float(np.median(inside)))
    if inside.min() >= high - step:
        return None
    return high if float((inside >= high - step).mean()) >= LEAST_CUT else None
