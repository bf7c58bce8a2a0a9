"""Grey windows of the viewer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

PRESETS = ("standard", "narrow", "wide")


@dataclass(frozen=True)
class Tone:
    """How a channel's values become grey.

    Pictures are stored once, in 256 levels over [low, high], and the browser applies the window. That is a third of
    the files of pictures per preset, and needs no canvas, whose pixels a page from disk may not read. The price is
    coarser grey in a narrow window: 68 levels of ADC in 300–1100, where the images' noise is wider than a level.

    windows: preset → ends of its grey window, inside [low, high].
    error: where the colours of errors end.
    decimals: to print.
    """

    low: float
    high: float
    windows: Mapping[str, tuple[float, float]]
    error: float
    decimals: int = 1

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Values of any shape → uint8."""
        share = (np.nan_to_num(values) - self.low) / (self.high - self.low)
        return np.rint(255 * share.clip(0, 1)).astype(np.uint8)

    def css(self, preset: str) -> str:
        """The CSS filter that turns the stored grey into the window's.

        brightness(b) contrast(c) maps a grey x in [0, 1] to (b x − ½) c + ½, which a window inside the stored range
        can always be written as.
        """
        low, high = self.windows[preset]
        slope = (self.high - self.low) / (high - low)
        contrast = 1 + 2 * (low - self.low) / (high - low)
        return f"brightness({slope / contrast:.5f}) contrast({contrast:.5f})"


KNOWN = {
    ("dwi", "relative DWI"): Tone(0, 4, {"standard": (0, 3), "narrow": (0.5, 2), "wide": (0, 4)}, error=1),
    ("adc", "10⁻⁶ mm²/s"): Tone(0, 3000, {"standard": (0, 2000), "narrow": (300, 1100), "wide": (0, 3000)}, 500, 0),
}


def tone(name: str, unit: str, inside: np.ndarray) -> Tone:
    """Fixed for relative DWI and ADC, so that patients look alike; for others from the values in the brain.

    Args:
        name, unit: of the channel.
        inside: values of the real image in the brain, any shape.
    """
    if (name, unit) in KNOWN:
        return KNOWN[name, unit]
    finite = inside[np.isfinite(inside)]
    cuts = (0.1, 1, 10, 95, 99, 99.9)
    lowest, low, narrow, bright, high, highest = np.percentile(finite, cuts).tolist() if finite.size else [0.0] * 6
    windows = {"standard": (low, high), "narrow": (narrow, bright), "wide": (lowest, highest)}
    # A constant image has windows of no width.
    safe = {preset: (start, end if end > start else start + 1) for preset, (start, end) in windows.items()}
    width = max(end for _, end in safe.values()) - lowest
    decimals = 0 if width >= 20 else 1 if width >= 2 else 2
    return Tone(lowest, lowest + width, safe, width / 4, decimals)
