"""Windows: the same value is the same grey in every figure and page, of every run and patient, real or synthetic."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ctp_ldm.scaling import Linear, Scaling, SymmetricLog

PRESETS = ("standard", "narrow", "wide")
TOO_LOW, ZERO, TOO_HIGH = (70, 165, 255), (34, 34, 38), (255, 120, 60)
"""Colours (red, green, blue) of errors, dark where there is none: the ground of the figures is black."""


@dataclass(frozen=True)
class Tone:
    """How a channel's values become grey.

    Pages store images once, in 256 levels over [low, high], and the browser applies the window. The price is coarser
    grey in a narrow window: 68 levels of ADC in 300–1100, where the images' noise is wider than a level.

    windows: preset → ends of its grey window, inside [low, high]; figures take the standard one.
    error: where the colours of errors end.
    decimals: to print.
    """

    low: float
    high: float
    windows: Mapping[str, tuple[float, float]]
    error: float
    decimals: int = 1

    @property
    def standard(self) -> tuple[float, float]:
        return self.windows["standard"]

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Values of any shape → uint8."""
        share = (np.nan_to_num(values) - self.low) / (self.high - self.low)
        return np.rint(255 * share.clip(0, 1)).astype(np.uint8)


def _tone(standard: tuple[float, float], narrow: tuple[float, float], wide: tuple[float, float], error: float) -> Tone:
    return Tone(*wide, {"standard": standard, "narrow": narrow, "wide": wide}, error, _decimals(wide[1] - wide[0]))


def _decimals(width: float) -> int:
    return 0 if width >= 20 else 1 if width >= 2 else 2


WINDOWS = {
    # Normal brain is 1, an infarct 1.5 to 2.5.
    "relative DWI": _tone((0, 2.5), (0.5, 2), (0, 4), error=1),
    "10⁻⁶ mm²/s": _tone((0, 2000), (300, 1100), (0, 3000), error=500),
    # White matter 27 and grey matter 36 HU.
    "HU": _tone((10, 50), (20, 40), (0, 80), error=10),
    "mL/100 g/min": _tone((0, 80), (0, 40), (0, 120), error=20),
    "mL/100 g": _tone((0, 6), (0, 3), (0, 10), error=2),
    "s": _tone((0, 12), (0, 6), (0, 20), error=4),
}
"""Unit → windows of its channels."""
ENHANCEMENT = _tone((0, 8), (0, 5), (-10, 40), error=3)
"""Of HU above those before contrast, averaged over phases: white matter 2, grey matter 4, vessels 10 to 30."""


def tone(unit: str, scaling: Scaling | None, inside: np.ndarray) -> Tone:
    """Fixed where the unit is known, else the range that the channel is scaled by, else from the values.

    Args:
        unit: of the channel.
        scaling: of the channel; None where nobody tells it.
        inside: values of the real images in the brain, any shape; of all images that share the window.
    """
    if unit == "HU" and isinstance(scaling, SymmetricLog):
        return ENHANCEMENT
    if unit in WINDOWS:
        return WINDOWS[unit]
    if isinstance(scaling, Linear):
        low, high = scaling.low, scaling.high
        quarter = (high - low) / 4
        return _tone((low, high), (low + quarter, high - quarter), (low, high), error=quarter)
    return _from_values(inside[np.isfinite(inside)])


def _from_values(values: np.ndarray) -> Tone:
    cuts = (0.1, 1, 10, 95, 99, 99.9)
    lowest, low, narrow, bright, high, highest = np.percentile(values, cuts).tolist() if values.size else [0.0] * 6
    windows = {"standard": (low, high), "narrow": (narrow, bright), "wide": (lowest, highest)}
    # A constant image has windows of no width.
    safe = {preset: (start, end if end > start else start + 1) for preset, (start, end) in windows.items()}
    width = max(end for _, end in safe.values()) - lowest
    return Tone(lowest, lowest + width, safe, width / 4, _decimals(width))


def in_words(low: float, high: float, unit: str) -> str:
    """A window for a heading, such as "0–3 relative DWI", "±500 × 10⁻⁶ mm²/s" or "−10 to 40 HU"."""
    ends = [f"{end:.4g}".replace("-", "−") for end in (low, high)]
    span = f"±{ends[1]}" if low == -high else f"{ends[0]} to {ends[1]}" if low < 0 else "–".join(ends)
    return f"{span} {'× ' if unit.startswith('10') else ''}{unit}".strip()
