"""Paired differences of all metrics, on one axis."""

import math
from collections.abc import Sequence

from ctp_ldm.metrics import Interval, Metric
from ctp_ldm.report import wording
from ctp_ldm.report.arms import Arm
from ctp_ldm.report.figures.plot import BOTTOM, TOP, Figure, Plot
from ctp_ldm.report.figures.scale import Scale, linear
from ctp_ldm.report.study import Study

ROW = 32
SIDE = 12
FARTHEST = 3.0  # standard deviations; what lies beyond would squeeze everything else
OF_IMAGES = ("dwi_ratio", "adc620")

Line = tuple[str, Metric, Interval, float]


def forest(study: Study) -> Figure | None:
    """Two panels for each arm, lesions and images; None where nothing is compared."""
    lines = {arm.name: _lines(study, arm) for arm in study.others}
    reach = max([0.1, *(_reach(line) for every in lines.values() for line in every)])
    plots = []
    for arm in study.others:
        images = [line for line in lines[arm.name] if line[1].channel is not None or line[0].startswith(OF_IMAGES)]
        lesions = [line for line in lines[arm.name] if line not in images]
        title = f"{arm.name} − {study.reference.name}"
        for part, chosen in (("lesions", lesions), ("images", images)):
            if chosen:
                plots.append(_panel(f"{title}: {part}", chosen, study.arms.index(arm), reach))
    reference = study.reference.name
    caption = (
        f"Mean over patients of (arm − {reference}) and its 95 % interval, divided by the standard deviation of "
        f"{reference} over patients, so that all metrics share an axis. Right of zero is better, whichever way a "
        "metric runs; the numbers are in its own unit, undivided and unturned. Filled: the interval excludes zero. "
        f"What is farther than {FARTHEST:g} lies at the edge."
    )
    return Figure("forest", "Paired differences", caption, plots, legend=False) if plots else None


def _lines(study: Study, arm: Arm) -> list[Line]:
    """(column, metric, difference, what a unit of the metric is on the axis) of metrics with a better side."""
    lines = []
    for column in study.metrics:
        metric, difference = study.metric(column), study.difference(column, arm)
        if metric.better in ("higher", "lower") and difference is not None:
            spread = float(study.table.loc[(column, arm.name), "spread"])
            if spread > 0:
                lines.append((column, metric, difference, (1 if metric.better == "higher" else -1) / spread))
    return lines


def _reach(line: Line) -> float:
    _, _, difference, unit = line
    ends = [abs(unit * end) for end in (difference.mean, difference.low, difference.high) if math.isfinite(end)]
    return min(FARTHEST, max(ends))


def _panel(title: str, lines: Sequence[Line], arm: int, reach: float) -> Plot:
    height = TOP + BOTTOM + ROW * len(lines)
    places = Scale(-0.5, len(lines) - 0.5, ())
    x_label = "← worse · in standard deviations over patients · better →"
    plot = Plot(title, linear((-reach, reach)), places, x_label, height=height, left=SIDE)
    plot.line((0, 0), (places.low, places.high), "zero")
    for i, (_, metric, difference, unit) in enumerate(lines):
        at, low, high = (unit * end for end in (difference.mean, difference.low, difference.high))
        y = len(lines) - 1 - i - 0.18
        if math.isfinite(low):
            plot.line((low, high), (y, y), "whisker", arm)
        certain = math.isfinite(low) and low * high > 0
        # What is relative has no unit to speak of.
        name = "" if metric.unit.startswith("relative") else metric.unit
        words = f"{wording.with_interval(difference, metric.decimals)} {name}".strip()
        plot.point(at, y, arm, f"{metric.title}: {words}", kind="mean" if certain else "mean hollow")
        plot.text(plot.x.low, y, metric.title, "row primary" if metric.primary else "row", lift=9)
        plot.text(plot.x.high, y, words, "row end", lift=9)
    return plot
