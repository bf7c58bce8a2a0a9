"""Lesion volume found on the synthetic image against the reference, after Bland and Altman."""

import math

import pandas as pd

from ctp_ldm.metrics import Estimate, bland_altman, ccc, icc
from ctp_ldm.report import wording
from ctp_ldm.report.arms import Arm
from ctp_ldm.report.figures.plot import Figure, Plot
from ctp_ldm.report.figures.scale import Scale, linear, volume
from ctp_ldm.report.study import Study


def agreement(study: Study) -> Figure | None:
    """A panel for each arm, all with the same axes; None without volumes."""
    arms = [a for a in study.arms if {"found_ml", "reference_ml"} <= set(a.patients) and len(_pairs(a))]
    if not arms:
        return None
    # Limits of agreement belong to the picture even where no patient lies near them.
    limits = [bland_altman(*_volumes(arm)) for arm in arms]
    ends = [e.value for limit in limits for e in (limit.lower, limit.upper) if math.isfinite(e.value)]
    differences = [v for a in arms for v in (_pairs(a)["found_ml"] - _pairs(a)["reference_ml"])]
    means = [v for a in arms for v in _pairs(a).mean(axis=1)]
    x, y = volume(means), linear([0, *differences, *ends])
    caption = (
        "Each dot is a patient, of several trainings the patient's mean. Lines: mean difference (bias) and limits of "
        "agreement, bias ± 1.96 standard deviations; shaded: their 95 % intervals, over patients alone. Horizontal "
        "distances are those of square roots."
    )
    plots = [_panel(study, arm, x, y) for arm in arms]
    return Figure("agreement", "Agreement of lesion volumes", caption, plots, legend=False, downstream=True)


def _pairs(arm: Arm) -> pd.DataFrame:
    return arm.patients[["found_ml", "reference_ml"]].dropna()


def _volumes(arm: Arm) -> tuple[list[float], list[float]]:
    return _pairs(arm)["found_ml"].tolist(), _pairs(arm)["reference_ml"].tolist()


def _panel(study: Study, arm: Arm, x: Scale, y: Scale) -> Plot:
    found, reference = _volumes(arm)
    result = bland_altman(found, reference)
    plot = Plot(arm.name, x, y, "mean of found and reference, mL", "found − reference, mL", height=350, bottom=82)
    number = study.arms.index(arm)
    for estimate, kind in ((result.bias, "bias"), (result.lower, "limit"), (result.upper, "limit")):
        if math.isfinite(estimate.low):
            plot.band(estimate.low, estimate.high)
        if math.isfinite(estimate.value):
            plot.line((x.low, x.high), (estimate.value,) * 2, kind)
            plot.text(x.high, estimate.value, wording.value(estimate.value, 1), "note end", lift=4)
    plot.line((x.low, x.high), (0, 0), "zero")
    for case, one, other in zip(_pairs(arm).index, found, reference, strict=True):
        tip = f"{case}: found {one:.1f} mL, reference {other:.1f} mL"
        plot.point((one + other) / 2, one - other, number, tip, str(case))
    plot.footer = [
        f"bias {_words(result.bias, 1)} mL, limits {wording.value(result.lower.value, 1)} to "
        f"{wording.value(result.upper.value, 1)} mL",
        f"{_coefficients(found, reference)}n = {len(found)}",
    ]
    return plot


def _coefficients(found: list[float], reference: list[float]) -> str:
    """ICC and CCC; nothing where all reference volumes are the same, as without lesions."""
    if len(set(reference)) < 2:
        return ""
    return f"ICC {_words(icc(found, reference), 2)}, CCC {_words(ccc(found, reference), 2)}, "


def _words(estimate: Estimate, decimals: int) -> str:
    low, high = wording.value(estimate.low, decimals), wording.value(estimate.high, decimals)
    text = wording.value(estimate.value, decimals)
    return text if low == wording.NONE else f"{text} [{low}, {high}]"
