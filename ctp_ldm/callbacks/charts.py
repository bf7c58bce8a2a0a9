"""Figures about lesions of some patients, for TensorBoard."""

import math
from collections.abc import Mapping

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ctp_ldm.metrics import bland_altman
from ctp_ldm.metrics.curves import UP_TO_ML, OperatingCurve


def draw_lesions(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bland–Altman of found and reference volume, Dice by volume, and volume found outside the reference.

    Args:
        rows: patient → column → value, of `evaluate_patient` with a segmenter.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    agreement, overlap, invented = figure.subplots(1, 3)
    pairs = [(row["found_ml"], row["reference_ml"]) for row in rows.values() if not math.isnan(row["reference_ml"])]
    agreement.scatter([(a + b) / 2 for a, b in pairs], [a - b for a, b in pairs], s=14)
    limits = bland_altman([a for a, _ in pairs], [b for _, b in pairs])
    for estimate in (limits.lower, limits.bias, limits.upper):
        agreement.axhline(estimate.value, color="gray", linewidth=0.8)
    agreement.set(xlabel="mean of found and reference, mL", ylabel="found − reference, mL")
    overlap.scatter([b for _, b in pairs], [row["dice"] for row in rows.values() if not math.isnan(row["dice"])], s=14)
    overlap.set(xlabel="reference, mL", ylabel="Dice", ylim=(-0.02, 1.02))
    names = [name for name in next(iter(rows.values()), {}) if name.startswith("false_")]
    for place, name in enumerate(names):
        values = [row[name] for row in rows.values() if not math.isnan(row[name])]
        invented.scatter([place] * len(values), values, s=14)
    invented.set_xticks(range(len(names)), [name.removeprefix("false_") for name in names], rotation=20)
    invented.set_ylabel("found outside the reference, mL")
    return figure


def draw_curve(curve: OperatingCurve) -> Figure:
    """Mean share of lesion volume that is found against mean false lesion volume, at all cut-offs."""
    figure = Figure(figsize=(4.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, *curve.mean_false_ml], [0, *curve.mean_found_share])
    axes.set(xlabel="false lesion volume, mL", ylabel="share of lesion volume found", xlim=(0, UP_TO_ML), ylim=(0, 1))
    axes.set_title(f"{len(curve.false_ml)} patients, area {curve.mean_area():.3f}", fontsize="medium")
    return figure
