"""Detection and error by the volume of the reference lesion."""

import math
from collections.abc import Sequence

from ctp_ldm.metrics import Interval, by_stratum
from ctp_ldm.report import wording
from ctp_ldm.report.differences import interval
from ctp_ldm.report.figures.plot import Figure, Plot
from ctp_ldm.report.figures.scale import categories, linear
from ctp_ldm.report.study import Study

APART = 0.16


def strata(study: Study) -> Figure | None:
    """A panel for each metric; None where no patient has a lesion."""
    columns = ["lesion_dice", "detected", *[f"lesion_mae_{target}" for target in study.targets]]
    plots = [plot for column in columns if (plot := _panel(study, column))]
    caption = (
        "Means over the patients of a stratum with their 95 % intervals: Wilson's for detection (at least 20 % of the "
        "lesion's volume is found), bootstrap for the others; n patients. Of several trainings "
        "each patient's mean goes in; the intervals are over patients alone."
    )
    if not plots:
        return None
    downstream = any(column in arm.patients for arm in study.arms for column in ("lesion_dice", "detected"))
    return Figure("strata", "By lesion volume", caption, plots, downstream=downstream)


def _panel(study: Study, column: str) -> Plot | None:
    found: dict[int, dict[str, Interval]] = {}
    for number, arm in enumerate(study.arms):
        if column in arm.patients:
            values = arm.patients[column].tolist()
            result = by_stratum(study.volumes_ml.tolist(), values, summary=lambda v: interval(column, v))
            found[number] = {name: i for name, i in result.items() if name != "no lesion"}
    if not any(i.patients for result in found.values() for i in result.values()):
        return None
    metric = study.metric(column)
    names = list(next(iter(found.values())))
    counts = [max(result[name].patients for result in found.values()) for name in names]
    every = [v for result in found.values() for i in result.values() for v in (i.mean, i.low, i.high)]
    limits = (0.0, 1.0) if column in ("lesion_dice", "detected") else (0.0, *every)
    x = categories([f"{_short(name)}\nn = {count}" for name, count in zip(names, counts, strict=True)])
    title = {"detected": "Detection"}.get(column, metric.title)
    unit = {"detected": "share of patients"}.get(column, metric.unit)
    plot = Plot(title, x, linear(limits), "lesion volume, mL", unit or title, bottom=60)
    for place, (number, result) in zip(_places(len(found)), found.items(), strict=True):
        dots = [(i + place, estimate.mean) for i, estimate in enumerate(result.values()) if estimate.patients]
        plot.path(dots, "path", number)
        for i, (name, estimate) in enumerate(result.items()):
            if not estimate.patients:
                continue
            if math.isfinite(estimate.low):
                plot.line((i + place,) * 2, (estimate.low, estimate.high), "whisker", number)
            words = wording.with_interval(estimate, metric.decimals)
            tip = f"{study.arms[number].name}, {name}: {words}, n = {estimate.patients}"
            plot.point(i + place, estimate.mean, number, tip, kind="mean")
    return plot


def _places(count: int) -> Sequence[float]:
    """Arms beside each other."""
    apart = min(APART, 0.7 / max(count, 1))
    return [apart * (i - (count - 1) / 2) for i in range(count)]


def _short(stratum: str) -> str:
    return stratum.removesuffix(" mL")
