"""Rows of slices with the lesion's outline, for callbacks and reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """One picture: image (H, W) on the prepared grid (NaN is not drawn), with its colour map and window."""

    image: np.ndarray
    title: str
    colours: str
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One patient's slice: its name, panels and lesion mask (H, W)."""

    name: str
    panels: Sequence[Panel]
    lesion: np.ndarray


def source_panel(arrays: Mapping[str, np.ndarray]) -> Panel:
    """The source inside the brain, windowed to its 1st–99th percentile."""
    brain = arrays["brain"] > 0.5
    inside = arrays["source"][brain]
    low, high = np.percentile(inside, [1, 99]) if inside.size else (0.0, 1.0)
    return Panel(np.where(brain, arrays["source"], np.nan), "source", "magma", float(low), float(max(high, low + 1e-6)))


def window(real: np.ndarray, brain: np.ndarray) -> float:
    """Upper end of the grey window of a target: the 99.8th percentile in the brain of the real image (H, W)."""
    inside = real[brain > 0.5]
    return float(max(np.percentile(inside, 99.8), 1e-6)) if inside.size else 1.0


def draw_rows(rows: Sequence[Row]) -> Figure:
    """A figure with a line for each patient; the nose is up and the patient's right on the left."""
    columns = max((len(row.panels) for row in rows), default=1)
    figure = Figure(figsize=(1.9 * columns, 2.3 * max(len(rows), 1) + 0.3), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(len(rows), 1), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=False):
        line[0].set_ylabel(row.name, fontsize=7, color="white")
        for axis, panel in zip(line, row.panels, strict=True):
            # (H, W) runs to the patient's right and front.
            axis.imshow(
                panel.image[::-1].T,
                cmap=panel.colours,
                vmin=panel.low,
                vmax=panel.high,
                origin="lower",
                interpolation="nearest",
            )
            if row.lesion.any():
                axis.contour(row.lesion[::-1].T, levels=[0.5], colors="#39ff14", linewidths=0.6)
            axis.set_title(panel.title, fontsize=7, color="white")
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_facecolor("black")
    return figure
