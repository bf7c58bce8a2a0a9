"""Which unit a file's values are in: told apart by what living brains have, refused where that does not decide."""

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ctp_ldm.data.faults import DataFault, UnknownUnit
from ctp_ldm.data.volumes import Volume

AUTO = "auto"
_OFFSET = re.compile(r"HU(?:\+(\d+))?")
_LEAST_SHARE = 0.03
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


def to_hounsfield(volume: Volume, stated: str = AUTO) -> Volume:
    """CT in HU, from files that hold HU or HU + 1024.

    By the voxels of the first frame that are where air (−1000 ± 100 HU), or else grey and white matter (10–70 HU),
    would be in the one or the other: at least 3 % of a scan that shows a head.

    Args:
        volume: (X, Y, Z) or (X, Y, Z, T).
        stated: "auto", "HU", or "HU+<offset>" such as "HU+1024".

    Returns:
        The volume in HU, with the file's unit.

    Raises:
        UnknownUnit: neither.
        DataFault: the stated unit is none.
    """
    known = _OFFSET.fullmatch(stated)
    if stated != AUTO and known is None:
        raise DataFault(f"{volume.path}: unit {stated!r} is unknown; expected auto, HU or HU+1024")
    unit = stated if known else _ct_unit(volume)
    offset = int(unit.removeprefix("HU") or 0)
    return replace(volume, values=volume.values - np.float32(offset) if offset else volume.values, unit=unit)


def _ct_unit(volume: Volume) -> str:
    frame = volume.values if volume.values.ndim == 3 else volume.values[..., 0]

    def share(low: float, high: float) -> float:
        return float(((frame >= low) & (frame <= high)).mean())

    if share(-1100, -900) >= _LEAST_SHARE:
        return "HU"
    if share(1034, 1094) >= _LEAST_SHARE:
        return "HU+1024"
    if share(10, 70) >= _LEAST_SHARE:
        return "HU"
    low, middle, high = np.percentile(frame, [1, 50, 99])
    raise UnknownUnit(
        f"{volume.path} has values of {low:.4g} / {middle:.4g} / {high:.4g} (1, 50, 99 %), in which neither air "
        "nor brain is seen in HU or HU + 1024; check that it is a CT, or state its unit with data.units"
    )
