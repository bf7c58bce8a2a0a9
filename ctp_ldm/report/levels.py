"""Images as the pages hold them: 256 levels of each voxel, which the browser colours, windows and reads values from.

A page from disk may run scripts and show pictures, but read neither data nor the pixels of a picture. So levels travel
in a script, compressed by zlib, in base64: a third more than a picture takes, once for all windows, planes and values.
"""

import base64
import zlib
from dataclasses import dataclass

import numpy as np

from ctp_ldm.display.panels import box_around
from ctp_ldm.display.windows import Tone

ERROR_LEVELS = 127
"""On each side of no error, which is level 128."""
MARGIN = 2
PLANES = ("axial", "coronal", "sagittal")
FEWEST = 4
"""Slices of which coronal and sagittal views are made: of fewer they are a stripe."""


@dataclass(frozen=True)
class Frame:
    """The part of a (Z, H, W) grid that holds brain.

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
    def size(self) -> tuple[int, int]:
        """(width, height) of a drawn axial slice in px."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def planes(self) -> tuple[str, ...]:
        """Views that can be made."""
        return PLANES if self.count >= FEWEST else PLANES[:1]

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """(Z, H, W) → (n, height, width) as drawn: nose up, the patient's right on the left."""
        (z0, z1), (h0, h1), (w0, w1) = self.slices, self.rows, self.columns
        # H runs to the patient's right, W to the front.
        return volume[z0:z1, h0:h1, w0:w1][:, ::-1, ::-1].transpose(0, 2, 1)

    def views(self, volume: np.ndarray) -> dict[str, np.ndarray]:
        """(Z, H, W) → plane → (slices, height, width) as drawn, the head up in those that stand.

        Coronal slices go from the front to the back, sagittal ones from right to left with the nose on the left.
        """
        axial = self.cut(volume)
        standing = axial[::-1]
        every = {"axial": axial, "coronal": standing.transpose(1, 0, 2), "sagittal": standing.transpose(2, 0, 1)}
        return {plane: every[plane] for plane in self.planes}


def frame_of(brain: np.ndarray) -> Frame:
    """Around the brain (Z, H, W), with a small margin in-plane; the whole grid where the mask is empty."""
    box = box_around(brain, (0, MARGIN, MARGIN))
    slices, rows, columns = ((side.start, side.stop) for side in box)
    return Frame(slices, rows, columns)


def grey(volume: np.ndarray, brain: np.ndarray, tone: Tone, frame: Frame) -> np.ndarray:
    """A channel (Z, H, W) → (n, height, width) uint8: 0 outside the brain, 1 to 255 from a tone's low to its high."""
    return frame.cut(np.where(brain, tone.levels(volume).clip(1), 0).astype(np.uint8))


def error(difference: np.ndarray, brain: np.ndarray, limit: float, frame: Frame) -> np.ndarray:
    """synthetic − real (Z, H, W) → (n, height, width) uint8: 0 outside the brain, 1 to 255 from −limit to limit."""
    share = (np.nan_to_num(difference) / limit).clip(-1, 1)
    levels = np.where(brain, np.rint(share * ERROR_LEVELS) + ERROR_LEVELS + 1, 0)
    return frame.cut(levels.astype(np.uint8))


def packed(levels: np.ndarray) -> str:
    """uint8 of any shape → text for a script."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(levels).tobytes(), level=9)).decode()
