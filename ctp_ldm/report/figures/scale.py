"""Where values lie along an axis."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from ctp_ldm.report.wording import number

VOLUMES_ML = (0, 1, 5, 10, 25, 70, 150, 300, 600, 1200, 2400)


@dataclass(frozen=True)
class Scale:
    """From data to a share of the axis, 0 at its beginning.

    low, high: its ends.
    ticks: (value, label).
    root: whether distances are those of square roots, for volumes that crowd near zero.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    root: bool = False

    def place(self, value: float) -> float:
        """Share of the axis; beyond its ends at most a little."""
        low, high, at = (self._bend(v) for v in (self.low, self.high, value))
        return min(max((at - low) / (high - low), -0.02), 1.02)

    def _bend(self, value: float) -> float:
        return math.sqrt(max(value, 0.0)) if self.root else value


def linear(values: Iterable[float], count: int = 5, margin: float = 0.04) -> Scale:
    """All finite values, with a margin and round ticks."""
    low, high = _range(values)
    width = high - low or abs(high) or 1.0
    low, high = low - margin * width, high + margin * width
    ticks = [float(t) for t in MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= t <= high]
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    decimals += abs(round(step, decimals) - step) > 1e-9 * step  # a step of 2.5 needs one more than a step of 2
    return Scale(low, high, tuple((t, number(t, decimals)) for t in ticks))


def volume(values: Iterable[float]) -> Scale:
    """Volumes in mL from 0, by their square roots."""
    high = max(1.0, _range(values)[1]) * 1.08
    ticks = [v for v in VOLUMES_ML if v <= high]
    # Ticks that would touch are left out, from the right.
    kept = [ticks[-1]]
    for tick in reversed(ticks[:-1]):
        if math.sqrt(kept[-1] / high) - math.sqrt(tick / high) > 0.075:
            kept.append(tick)
    return Scale(0.0, high, tuple((float(t), f"{t:g}") for t in reversed(kept)), root=True)


def categories(names: Sequence[str]) -> Scale:
    """Equal places 0, 1, …"""
    return Scale(-0.5, len(names) - 0.5, tuple((float(i), name) for i, name in enumerate(names)))


def _range(values: Iterable[float]) -> tuple[float, float]:
    finite = np.array([v for v in values if math.isfinite(v)])
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
