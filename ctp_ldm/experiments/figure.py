"""The table as a picture: a panel for each metric, a row for each arm."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ctp_ldm.experiments.table import heading
from ctp_ldm.metrics import describe
from ctp_ldm.report.arms import Arm
from ctp_ldm.report.differences import arm_mean

ROW_INCH, PANEL_INCH, NAMES_INCH = 0.22, 2.6, 3.6


def draw(arms: Sequence[Arm], titles: Sequence[str], columns: Sequence[str], strong: Sequence[str], path: Path) -> None:
    """Means and 95 % intervals over patients and seeds.

    Args:
        arms: from top to bottom.
        titles: of the arms.
        columns: from left to right.
        strong: names of the arms that stand out.
        path: PNG or SVG to write.
    """
    width = NAMES_INCH + PANEL_INCH * len(columns)
    figure = Figure(figsize=(width, 1.2 + ROW_INCH * len(arms)))
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axis, column in zip(axes, columns, strict=True):
        for row, arm in enumerate(arms):
            if column not in arm.patients:
                continue
            found = arm_mean(column, arm)
            colour = "C3" if arm.name in strong else "C0"
            if math.isfinite(found.low):
                axis.plot([found.low, found.high], [row, row], color=colour, linewidth=1.5)
            axis.plot(found.mean, row, "o", color=colour, markersize=4)
        axis.set_title(heading(describe(column)), fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes[0].set_yticks(range(len(arms)), titles)
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, dpi=130, format=path.suffix[1:])
    partial.replace(path)
