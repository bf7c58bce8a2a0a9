"""Paired differences of all metrics, on one axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

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

MARK = "†"
# Columns of what is found, by what they are where nothing is.
OVERLAP = ("dice", "lesion_dice", "lesion_f1", "lesion_f1_overlap")
FOUND = ("sensitivity", "precision", "detected", "detected_10ml", "found_ml", "shared_ml", "any_false_free")
FALSE = "false_"
"""Beginnings of columns of what is found outside the lesion."""
ERROR = "absolute_volume_error_ml"


@dataclass(frozen=True)
class Line:
    """A metric of an arm.

    difference: from the reference, in the metric's unit.
    unit: what one of it is on the axis, turned so that right is better.
    shared: whether the axis is the reference's standard deviations.
    shown: whether the difference is better or worse.
    nothing: difference of an arm that finds nothing; NaN where it is not known.
    """

    column: str
    metric: Metric
    difference: Interval
    unit: float
    shared: bool
    shown: bool
    nothing: float


def forest(study: Study) -> Figure | None:
    """Two panels for each arm, lesions and images; None where nothing is compared."""
    lines = {arm.name: _lines(study, arm) for arm in study.others}
    reach = max([0.1, *(_reach(line) for every in lines.values() for line in every)])
    plots = []
    for arm in study.others:
        images = [x for x in lines[arm.name] if x.metric.channel is not None or x.column.startswith(OF_IMAGES)]
        lesions = [line for line in lines[arm.name] if line not in images]
        title = f"{arm.name} − {study.reference.name}"
        for part, chosen in (("lesions", lesions), ("images", images)):
            if chosen:
                plots.append(_panel(f"{title}: {part}", chosen, study.arms.index(arm), reach))
    reference = study.reference.name
    caption = (
        f"Mean over patients of (arm − {reference}) and its 95 % interval, divided by the standard deviation of "
        f"{reference} over patients, so that all metrics share an axis. Right of zero is better, whichever way a "
        "metric runs; the numbers are in its own unit, undivided and unturned. Filled: better or worse, as in the "
        f"table. What is farther than {FARTHEST:g} lies at the edge."
    )
    every = [line for some in lines.values() for line in some]
    if any(math.isfinite(line.nothing) for line in every):
        caption += " Dashed: an arm that finds no lesion in anyone, where the lesions' volumes tell what it would have."
    if not all(line.shared for line in every):
        caption += (
            f" {MARK}: {reference} does not vary over patients; divided by the arm's own standard deviation, or "
            "undivided where that is none too."
        )
    if left := [study.metric(c).title for c in study.metrics if c not in {line.column for line in every}]:
        caption += f" Not drawn, without a better side or a difference: {', '.join(left)}."
    return Figure("forest", "Paired differences", caption, plots, legend=False) if plots else None


def _lines(study: Study, arm: Arm) -> list[Line]:
    """All metrics with a better side and a difference."""
    lines = []
    for column in study.metrics:
        metric, difference = study.metric(column), study.difference(column, arm)
        if metric.better not in ("higher", "lower") or difference is None:
            continue
        base, own = study.reference.patients[column], arm.patients[column]
        spread = next((float(values.std(ddof=1)) for values in (base, own) if values.nunique() > 1), 1.0)
        unit = (1 if metric.better == "higher" else -1) / spread
        nothing = nothing_found(column, base, study.volumes_ml)
        change = math.nan if nothing is None else float((nothing - base).mean())
        shown = study.verdict(column, arm) in ("better", "worse")
        lines.append(Line(column, metric, difference, unit, base.nunique() > 1, shown, change))
    return lines


def _reach(line: Line) -> float:
    ends = (line.difference.mean, line.difference.low, line.difference.high, line.nothing)
    return min(FARTHEST, max(abs(line.unit * end) for end in ends if math.isfinite(end)))


def _panel(title: str, lines: Sequence[Line], arm: int, reach: float) -> Plot:
    height = TOP + BOTTOM + ROW * len(lines)
    places = Scale(-0.5, len(lines) - 0.5, ())
    x_label = "← worse · in standard deviations over patients · better →"
    plot = Plot(title, linear((-reach, reach)), places, x_label, height=height, left=SIDE)
    plot.line((0, 0), (places.low, places.high), "zero")
    for i, line in enumerate(lines):
        metric, difference = line.metric, line.difference
        at, low, high = (line.unit * end for end in (difference.mean, difference.low, difference.high))
        y = len(lines) - 1 - i - 0.18
        if math.isfinite(line.nothing):
            plot.line((line.unit * line.nothing,) * 2, (y - 0.2, y + 0.2), "nothing")
        if math.isfinite(low):
            plot.line((low, high), (y, y), "whisker", arm)
        # What is relative has no unit to speak of.
        name = "" if metric.unit.startswith("relative") else metric.unit
        words = f"{wording.with_interval(difference, metric.decimals)} {name}{'' if line.shared else MARK}".strip()
        plot.point(at, y, arm, f"{metric.title}: {words}", kind="mean" if line.shown else "mean hollow")
        plot.text(plot.x.low, y, metric.title, "row primary" if metric.primary else "row", lift=9)
        plot.text(plot.x.high, y, words, "row end", lift=9)
    return plot


def nothing_found(column: str, values: pd.Series, volumes_ml: pd.Series) -> pd.Series | None:
    """What an arm would score that finds no lesion in anyone, patient → value; None where volumes alone do not tell.

    Args:
        column: of the table of patients.
        values: of any arm; where it is defined hangs on the reference lesion, so it is the same here.
        volumes_ml: of the reference lesions.
    """
    if column in OVERLAP:
        found = (volumes_ml == 0).astype(float)
    elif column in FOUND or column.startswith(FALSE):
        found = volumes_ml * 0.0
    elif column == ERROR:
        found = volumes_ml
    else:
        return None
    return found.where(values.notna())
