"""Which unit a map's values are in: told apart by what living brains have, refused where that does not decide."""

from collections.abc import Mapping

import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.volumes import Volume

AUTO = "auto"
STATED_SLACK = 3.0


def unit_factor(
    volume: Volume,
    brain: np.ndarray,
    units: Mapping[str, float],
    typical: tuple[float, float],
    stated: str = AUTO,
    quantile: float = 0.5,
) -> tuple[str, float]:
    """The unit of a map, and what its values are multiplied by.

    Args:
        volume: the map, (X, Y, Z).
        brain: (X, Y, Z) bool.
        units: name → factor to the first of them.
        typical: lowest and highest plausible quantile in the brain, in the first unit.
        stated: a name of `units`, or "auto". A stated one is believed up to three times beyond what is typical.
        quantile: by which to judge; the median unless told.

    Raises:
        DataFault: no unit, or more than one, makes the quantile plausible; the stated one is unknown or does not.
    """
    if stated not in (AUTO, *units):
        raise DataFault(f"{volume.path}: unit {stated!r} is unknown; expected auto, {', '.join(units)}")
    level = float(np.quantile(volume.values[brain], quantile))
    slack = 1.0 if stated == AUTO else STATED_SLACK
    possible = units if stated == AUTO else {stated: units[stated]}
    fitting = [u for u, factor in possible.items() if typical[0] / slack <= level * factor <= typical[1] * slack]
    if len(fitting) == 1:
        return fitting[0], units[fitting[0]]
    ranges = " or ".join(f"{typical[0] / f:.4g}–{typical[1] / f:.4g} in {unit}" for unit, f in units.items())
    name = "median" if quantile == 0.5 else f"{quantile:.0%} quantile"
    found = f"{volume.path} has a {name} of {level:.3g} in the brain"
    if len(fitting) > 1:
        raise DataFault(f"{found}, which fits {' and '.join(fitting)}; state which with data.units")
    raise DataFault(f"{found}; expected {ranges}: check what the file holds, that the brain mask fits, and data.units")
