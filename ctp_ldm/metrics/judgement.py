"""When a difference is better or worse: one rule for every table, sentence and figure."""

import math
from typing import Literal

import pandas as pd

from ctp_ldm.metrics.catalogue import Metric
from ctp_ldm.metrics.chains import chains_difference
from ctp_ldm.metrics.statistics import Interval

FOUND = ("sensitivity", "lesion_dice")
"""Columns that tell how much of the lesions is found, the first that both sides have. Dice does too: with less false
lesion it is lower only where less is found."""
FINDS_LESS = "finds less"
Finds = Literal["less", "less, with higher Dice", "no less", "unknown"]


def finds(ours: pd.DataFrame, theirs: pd.DataFrame, dice: Interval | None = None) -> Finds:
    """Whether ours finds less of the lesions than theirs, by a column of `FOUND`.

    Less: the interval of the paired difference lies below 0, or the difference does where one patient alone has a
    lesion, or ours finds nothing in anyone. With higher Dice: less is found, but not nothing, and the interval of the
    difference in Dice lies above 0; whoever paints everything finds most. Unknown: no patient has a lesion. A loss that
    the patients are too few to show is none here.

    Args:
        ours, theirs: (patients, chains), of the same patients; see `chains_difference`.
        dice: paired difference in `lesion_dice`, where both have it.

    Raises:
        StatisticsError: the patients differ.
    """
    change = chains_difference(ours, theirs)
    if change.patients == 0:
        return "unknown"
    below = change.mean < 0 if math.isnan(change.high) else change.high < 0
    if not (ours > 0).any(axis=None):
        return "less"
    if below:
        return "less, with higher Dice" if dice is not None and dice.low > 0 else "less"
    return "no less"


def judgement(metric: Metric, change: Interval, found: Finds, left_out: int = 0) -> str:
    """ "better", "worse", `FINDS_LESS`, or "" where nothing is shown.

    The interval has to exclude 0. A blank image has no false lesion: in a column that is `beside_found`, "better"
    stands where no less of the lesions is found, or less with higher Dice. Where less is, the judgement is
    `FINDS_LESS`, and where no patient has a lesion, "". Nothing is concluded from a part of the patients: "" where the
    difference leaves some out.

    Args:
        metric: of the column.
        change: of the paired difference ours − theirs.
        found: of the two, from `finds`.
        left_out: patients in whom one side alone has a value.
    """
    if metric.better not in ("higher", "lower") or left_out or not (change.low > 0 or change.high < 0):
        return ""
    if (change.low > 0) != (metric.better == "higher"):
        return "worse"
    if not metric.beside_found:
        return "better"
    return {"less": FINDS_LESS, "unknown": ""}.get(found, "better")
