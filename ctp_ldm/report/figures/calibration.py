"""Whether the spread of several samples tells the error."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ctp_ldm.metrics import bootstrap_mean
from ctp_ldm.report.figures.plot import Figure, Plot
from ctp_ldm.report.figures.scale import linear
from ctp_ldm.report.study import Study

Curves = dict[str, list[tuple[float, float]]]


def calibration(study: Study, curves: Mapping[str, Sequence[Curves]]) -> Figure | None:
    """A panel for each target; None where no run drew several samples.

    Args:
        study: for names and units.
        curves: arm → `calibration_curve` of each patient that was read.
    """
    plots = [plot for target in study.targets if (plot := _panel(study, target, curves))]
    caption = (
        "Brain voxels of each patient in ten equal shares, from certain to uncertain: root mean square error against "
        "root mean square deviation of the samples (thin: patients; thick: their mean; bars: 95 % bootstrap intervals "
        "of its error over patients). On the diagonal the deviation is the error to expect. Patients: "
        f"{max((len(c) for c in curves.values()), default=0)}, those with a viewer; of several trainings one."
    )
    return Figure("calibration", "Calibration of uncertainty", caption, plots) if plots else None


def _panel(study: Study, target: str, curves: Mapping[str, Sequence[Curves]]) -> Plot | None:
    found = {name: [c[target] for c in every if target in c] for name, every in curves.items()}
    values = [v for every in found.values() for curve in every for point in curve for v in point]
    if not values:
        return None
    scale = linear([0.0, *values], margin=0.02)
    unit = study.metric(f"brain_mae_{target}").unit
    plot = Plot(study.title(target), scale, scale, f"deviation of samples, {unit}", f"error, {unit}")
    plot.line((0, scale.high), (0, scale.high), "zero")
    for number, arm in enumerate(study.arms):
        every = found.get(arm.name, [])
        for curve in every:
            plot.path(curve, "thread", number)
        longest = max((len(curve) for curve in every), default=0)
        whole = [curve for curve in every if len(curve) == longest]
        if whole:
            deviations, errors = np.array(whole).T  # (shares, patients) each
            means = [(float(d.mean()), bootstrap_mean(e.tolist())) for d, e in zip(deviations, errors, strict=True)]
            plot.path([(x, error.mean) for x, error in means], "path thick", number)
            for x, error in means:
                told = f"{error.mean:.3g}"
                if math.isfinite(error.low):
                    plot.line((x, x), (error.low, error.high), "whisker", number)
                    told += f" [{error.low:.3g}, {error.high:.3g}]"
                plot.point(x, error.mean, number, f"{arm.name}: deviation {x:.3g}, error {told} {unit}")
    return plot
