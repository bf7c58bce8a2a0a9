"""All slices of a volume in one picture, of which the viewer shows one at a time.

One file per pane loads whole, so that the slider moves all panes at once and nothing is fetched meanwhile; a page from
disk may load pictures, but not data. PNG, because it is exact and every browser and program reads it.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ctp_ldm.display.windows import TOO_HIGH, TOO_LOW, ZERO, Tone

ERROR_LEVELS = 31
"""On each side of zero: more than the eye tells apart, and smaller files than 127."""
MARGIN = 2


@dataclass(frozen=True)
class Frame:
    """The part of a (Z, H, W) grid that holds brain, and how its slices lie in a picture.

    slices: first and last + 1.
    rows, columns: in H and in W, likewise.
    """

    slices: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def count(self) -> int:
        return self.slices[1] - self.slices[0]

    @property
    def across(self) -> int:
        """Slices in a line: near a square, because phones refuse pictures of more than 4096 px a side."""
        return math.ceil(math.sqrt(self.count))

    @property
    def down(self) -> int:
        """Lines."""
        return math.ceil(self.count / self.across)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of a drawn slice in px."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """(Z, H, W) → (n, height, width) as drawn: nose up, the patient's right on the left."""
        (z0, z1), (h0, h1), (w0, w1) = self.slices, self.rows, self.columns
        # H runs to the patient's right, W to the front.
        return volume[z0:z1, h0:h1, w0:w1][:, ::-1, ::-1].transpose(0, 2, 1)

    def tiled(self, pictures: np.ndarray) -> np.ndarray:
        """(n, height, width) → one picture, from left to right, then down."""
        n, height, width = pictures.shape
        sheet = np.zeros((self.down * self.across, height, width), pictures.dtype)
        sheet[:n] = pictures
        lines = sheet.reshape(self.down, self.across, height, width).transpose(0, 2, 1, 3)
        return lines.reshape(self.down * height, self.across * width)


def frame_of(brain: np.ndarray) -> Frame:
    """Around the brain (Z, H, W), with a small margin in-plane; the whole grid where the mask is empty."""
    ends = []
    for axis, margin in enumerate((0, MARGIN, MARGIN)):
        occupied = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))
        length = brain.shape[axis]
        low, high = (int(occupied[0]), int(occupied[-1])) if occupied.size else (0, length - 1)
        ends.append((max(0, low - margin), min(length, high + 1 + margin)))
    return Frame(ends[0], ends[1], ends[2])


def grey(volume: np.ndarray, brain: np.ndarray, tone: Tone, frame: Frame) -> bytes:
    """A channel (Z, H, W) as PNG, black outside the brain."""
    levels = np.where(brain, tone.levels(volume), 0).astype(np.uint8)
    return _png(Image.fromarray(frame.tiled(frame.cut(levels))))


def error(difference: np.ndarray, brain: np.ndarray, limit: float, frame: Frame) -> bytes:
    """synthetic − real (Z, H, W) as PNG: blue too low, red too high, dark where right, black outside the brain."""
    share = (np.nan_to_num(difference) / limit).clip(-1, 1)
    levels = np.where(brain, np.rint(share * ERROR_LEVELS) + ERROR_LEVELS + 1, 0).astype(np.uint8)
    picture = Image.fromarray(frame.tiled(frame.cut(levels)), mode="P")
    picture.putpalette([0, 0, 0, *_palette()])
    return _png(picture)


def _palette() -> list[int]:
    colours = []
    for step in range(-ERROR_LEVELS, ERROR_LEVELS + 1):
        end = TOO_LOW if step < 0 else TOO_HIGH
        share = abs(step) / ERROR_LEVELS
        colours += [round(z + share * (e - z)) for z, e in zip(ZERO, end, strict=True)]
    return colours


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
