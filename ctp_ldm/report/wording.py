"""Numbers and names as people read them."""

import math
from collections.abc import Mapping

from ctp_ldm.metrics import Interval, Metric, UnknownMetric, describe

NONE = "–"
LESS_NOTE = (
    "Finds less: the difference is on the good side, but so would a blank image's be, and the arm finds less of the "
    "lesions (the interval of the difference in sensitivity lies below zero and that in Dice not above it, or nothing "
    "is found). Of such columns nothing is concluded where no patient has a lesion, nor of any where a patient has a "
    "value in only one of the two."
)


def metric(column: str, units: Mapping[str, str]) -> Metric:
    """The catalogue's, or a column's bare name where the catalogue does not know it."""
    try:
        return describe(column, units)
    except UnknownMetric:
        return Metric(column)


def number(value: float, decimals: int) -> str:
    """With a true minus sign, and without one before zero."""
    text = f"{value:.{decimals}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("-", "−")


def value(amount: float, decimals: int) -> str:
    """A number, or a dash."""
    return NONE if math.isnan(amount) else number(amount, decimals)


def mean_and_interval(estimate: Interval, decimals: int) -> tuple[str, str]:
    """Mean and [low, high]; "" where there is no interval."""
    mean, low, high = (value(v, decimals) for v in (estimate.mean, estimate.low, estimate.high))
    return mean, "" if low == NONE else f"[{low}, {high}]"


def with_interval(estimate: Interval, decimals: int) -> str:
    """Both in one."""
    return " ".join(filter(None, mean_and_interval(estimate, decimals)))


def p_value(p: float) -> str:
    """To three decimals, as p-values are written."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def size(count: float) -> str:
    """Bytes."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
