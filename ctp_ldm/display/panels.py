"""Slices side by side on black: for each case a line of plain images, and one with outlines below it."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from monai.transforms.utils import generate_spatial_bounding_box
from PIL import Image

from ctp_ldm.display.windows import TOO_HIGH, TOO_LOW, ZERO, Tone, in_words
from ctp_ldm.writing import whole_file

REFERENCE, FOUND = "#39ff14", "#ffd23f"
"""Colours of the outlines; the report's pages have the same."""
ERRORS = LinearSegmentedColormap.from_list("errors", [[part / 255 for part in c] for c in (TOO_LOW, ZERO, TOO_HIGH)])
MARGIN = 1
"""Voxels around the brain."""
# In inches.
CELL, LABEL, EDGE = 1.5, 1.35, 0.12
GAP, GROUP_GAP, CASE_GAP = 0.03, 0.16, 0.22
LINE = 0.135
"""Height of a line of text."""
SMALL, NORMAL = 7.0, 8.0


@dataclass(frozen=True)
class Panel:
    """One picture of a column.

    image: (H, W) on the prepared grid; NaN is not drawn.
    title: of the column.
    low, high: ends of the window.
    unit: of the image.
    is_error: whether colours tell the sign.
    found: (H, W) bool, what a segmenter found on this image; None where nobody looked.
    note: below the outlined picture.
    """

    image: np.ndarray
    title: str
    low: float
    high: float
    unit: str = ""
    is_error: bool = False
    found: np.ndarray | None = None
    note: str = ""

    @property
    def heading(self) -> str:
        """The title, and the window below it."""
        words = textwrap.wrap(self.title, _letters(CELL, NORMAL))
        return "\n".join([*words, in_words(self.low, self.high, self.unit)])


@dataclass(frozen=True)
class Row:
    """One patient's slice.

    label: its name and what else is to be said, in lines.
    groups: panels of the source, of the first target …; all rows have the same titles and windows.
    brain, lesion: (H, W) bool.
    """

    label: str
    groups: Sequence[Sequence[Panel]]
    brain: np.ndarray
    lesion: np.ndarray


def grey_panel(image: np.ndarray, brain: np.ndarray, tone: Tone, title: str, unit: str, **more: Any) -> Panel:
    """An image (H, W) inside the brain (H, W) in its standard window; `more` are other fields of the panel."""
    return Panel(np.where(brain, image, np.nan), title, *tone.standard, unit, **more)


def draw_rows(rows: Sequence[Row], caption: str = "") -> Figure:
    """Two lines for each row, plain and outlined, all at one scale; the nose is up and the patient's right on the left.

    Args:
        rows: at least one.
        caption: below the figure.
    """
    across, down = box_around(np.any([row.brain for row in rows], axis=0), (MARGIN, MARGIN))
    sheet = _Sheet(rows, across, down, caption)
    for number, row in enumerate(rows):
        sheet.draw(number, row)
    return sheet.finish()


def render(figure: Figure, dpi: int) -> np.ndarray:
    """(height, width, 3) uint8."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write what `render` made; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        Image.fromarray(pixels).save(partial)


class _Sheet:
    """Places everything by hand: every picture has the same size, and nothing moves with the length of a label."""

    def __init__(self, rows: Sequence[Row], across: slice, down: slice, caption: str) -> None:
        self.across, self.down = across, down
        first = list(chain(*rows[0].groups))
        self.left = [LABEL + CELL * i + GAP * i for i in range(len(first))]
        starts = np.cumsum([0, *(len(group) for group in rows[0].groups)])
        for start in starts[1:-1]:
            self.left = [x + (GROUP_GAP if i >= start else 0) for i, x in enumerate(self.left)]
        self.width = self.left[-1] + CELL + EDGE
        self.cell = CELL * (down.stop - down.start) / (across.stop - across.start)
        self.notes = LINE if any(panel.note for row in rows for group in row.groups for panel in group) else 0.0
        self.case = 2 * self.cell + GAP + self.notes
        self.top = EDGE + LINE * max(panel.heading.count("\n") + 1 for panel in first) + 0.05
        self.caption = textwrap.wrap(caption, _letters(self.width - 2 * EDGE, SMALL))
        kinds = {REFERENCE: any(row.lesion.any() for row in rows)}
        kinds[FOUND] = any(p.found is not None for row in rows for group in row.groups for p in group)
        self.legend = [colour for colour, present in kinds.items() if present]
        below = LINE * (len(self.caption) + bool(self.legend)) + EDGE
        self.height = self.top + len(rows) * self.case + (len(rows) - 1) * CASE_GAP + 0.15 + below
        self.figure = Figure(figsize=(self.width, self.height), facecolor="black")

    def draw(self, number: int, row: Row) -> None:
        top = self.top + number * (self.case + CASE_GAP)
        name, *more = row.label.split("\n")
        lines = textwrap.wrap(name, _letters(LABEL - EDGE, 1.1 * NORMAL))
        self._text(EDGE, top, "\n".join(lines), weight="bold", size=NORMAL)
        self._text(EDGE, top + LINE * (len(lines) + 0.2), "\n".join(more), size=SMALL)
        for left, panel in zip(self.left, chain(*row.groups), strict=True):
            if number == 0:
                bottom = self.top - 0.05
                self._text(left + CELL / 2, bottom, panel.heading, size=NORMAL, ha="center", va="bottom")
            self._picture(left, top, panel)
            axis = self._picture(left, top + self.cell + GAP, panel)
            self._outline(axis, row.lesion, REFERENCE, "solid")
            if panel.found is not None:
                self._outline(axis, panel.found, FOUND, (0, (4, 1.6)))
            below = top + 2 * self.cell + GAP
            self._text(left + CELL / 2, below, panel.note, size=SMALL, ha="center", color=FOUND)

    def finish(self) -> Figure:
        y = self.height - EDGE - LINE * (len(self.caption) + bool(self.legend))
        x = EDGE
        for colour in self.legend:
            words = "reference lesion" if colour == REFERENCE else "lesion found on that image"
            style: Any = "solid" if colour == REFERENCE else (0, (4, 1.6))
            ends = (np.array([x, x + 0.25]) / self.width, np.full(2, 1 - (y + 0.06) / self.height))
            self.figure.add_artist(Line2D(*ends, color=colour, linewidth=1.2, linestyle=style))
            self._text(x + 0.32, y, words, size=SMALL, color=colour)
            x += 0.5 + 0.055 * len(words)
        if self.caption:
            self._text(EDGE, y + LINE * bool(self.legend), "\n".join(self.caption), size=SMALL, color="#cccccc")
        return self.figure

    def _picture(self, left: float, top: float, panel: Panel) -> Any:
        place = (left / self.width, 1 - (top + self.cell) / self.height, CELL / self.width, self.cell / self.height)
        axis = self.figure.add_axes(place)
        axis.set_axis_off()
        axis.imshow(
            self._turned(panel.image),
            cmap=ERRORS if panel.is_error else "gray",
            vmin=panel.low,
            vmax=panel.high,
            origin="lower",
            interpolation="nearest",  # any other would fade half a voxel of the brain's edge, where lesions lie
            aspect="auto",
        )
        return axis

    def _outline(self, axis: Any, mask: np.ndarray, colour: str, style: Any) -> None:
        if self._turned(mask).any():
            axis.contour(self._turned(mask), levels=[0.5], colors=colour, linewidths=0.8, linestyles=[style])

    def _turned(self, image: np.ndarray) -> np.ndarray:
        # (H, W) runs to the patient's right and front.
        return image[self.across, self.down][::-1].T

    def _text(self, x: float, y: float, words: str, size: float, **how: Any) -> None:
        """At so many inches from the left and from the top."""
        style = {"color": "white", "va": "top", "linespacing": 1.15, **how}
        self.figure.text(x / self.width, 1 - y / self.height, words, fontsize=size, **style)


def _letters(width: float, size: float) -> int:
    """How many of a font's size fit into so many inches; figures are drawn with DejaVu Sans, which is wide."""
    return round(width * 72 / (0.56 * size))


def box_around(mask: np.ndarray, margin: Sequence[int]) -> list[slice]:
    """A slice along each axis: around a mask with a margin, within the grid; all of it where the mask is empty."""
    if not mask.any():
        return [slice(0, length) for length in mask.shape]
    starts, ends = generate_spatial_bounding_box(mask[None], margin=margin, allow_smaller=True)
    return [slice(int(low), int(high)) for low, high in zip(starts, ends, strict=True)]
