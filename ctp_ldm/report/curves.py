"""Operating curves of the arms, as rows and as the figure of `ctp-ldm compare`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctp_ldm.metrics import Interval
from ctp_ldm.metrics.curves import AT_ML, UP_TO_ML, CurvesError, OperatingCurve, average_curves
from ctp_ldm.report import wording
from ctp_ldm.report.arms import Arm
from ctp_ldm.report.runs import TestedRun
from ctp_ldm.writing import whole_file

SHOWN_ML = 50.0
AREA = f"Area under the curve up to {UP_TO_ML:g} mL"
READING = (
    "Mean false lesion volume per patient against the mean share of lesion volume that is found, at all cut-offs; the "
    "dot is the cut-off that was used. The more a curve lies to the upper left, the better; two dots on one curve are "
    f"the same quality, used more or less carefully. The area (up to {UP_TO_ML:g} mL of false lesion; 1 is the best) "
    f"and what is found at {AT_ML:g} mL do not depend on the cut-off. Bands, brackets: 95 % bootstrap intervals over "
    "patients alone, also where a curve is the mean of several trainings: what another would give is not in them."
)


@dataclass(frozen=True)
class ArmCurve:
    """curve: mean over seeds. used: (false mL, share found), means over patients and seeds at the cut-offs used."""

    curve: OperatingCurve
    used: tuple[float, float]

    def drawn(self, end_ml: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """False volumes up to where the curve or the figure ends; the share found there; its lower and upper end."""
        last = min(end_ml, max(float(self.curve.mean_false_ml[-1]), 1e-3))
        at_ml = np.linspace(0, math.sqrt(last), 80) ** 2
        return at_ml, *self.curve.band(at_ml.tolist())


def read_curves(arms: Sequence[Arm]) -> tuple[dict[str, ArmCurve], list[str]]:
    """Arm → its curve, where all of its seeds have one and a patient has a lesion; and why others have none."""
    curves: dict[str, ArmCurve] = {}
    lacking: list[str] = []
    for arm in arms:
        try:
            made = [_read(run) for run in arm.runs]
            curve = average_curves([curve for curve, _ in made])
        except CurvesError as error:
            lacking.append(f"{arm.name} has no operating curve: {error}.")
            continue
        if np.isnan(curve.found_share).all():
            lacking.append(f"{arm.name} has no operating curve: no patient has a lesion.")
        else:
            false, share = np.mean([used for _, used in made], axis=0).tolist()
            curves[arm.name] = ArmCurve(curve, (false, share))
    patients = {len(one.curve.false_ml) for one in curves.values()}
    if len(patients) > 1:
        return {}, [*lacking, "No operating curves: the runs have them of different patients; test all of them again."]
    return curves, lacking


def _read(run: TestedRun) -> tuple[OperatingCurve, tuple[float, float]]:
    if run.curves is None:
        raise CurvesError("none was kept of it")
    path = run.curves
    shown = Path(*path.parts[-3:])  # the messages are written down too
    if not path.is_file():
        raise CurvesError(f"{shown} is missing; ctp-ldm test writes it where a segmenter finds lesions")
    try:
        curve = OperatingCurve.from_table(pd.read_csv(path, dtype={"case": str}))
    except (ValueError, pd.errors.ParserError) as error:
        raise CurvesError(f"{shown} cannot be read ({error}); run ctp-ldm test again") from error
    own = run.summary.get("cutoff")
    place = np.flatnonzero(np.isclose(curve.cutoffs, own if isinstance(own, float) else math.nan, rtol=1e-5, atol=0))
    if not len(place):
        return curve, (math.nan, math.nan)
    return curve, (float(curve.mean_false_ml[place[0]]), float(curve.mean_found_share[place[0]]))


def curve_rows(curves: Mapping[str, ArmCurve]) -> list[list[str]]:
    """A heading, and a row for each arm; differences are from the first that has a curve."""
    at = f"at {AT_ML:g} mL false"
    rows = [["run", AREA, "difference", f"Share found {at}", "difference", f"Lesions ≥ 10 mL detected {at}", "used"]]
    first = next(iter(curves.values()), None)
    for name, one in curves.items():
        assert first is not None
        changes = ["–", "–"]
        if one is not first:
            changes = [_told(one.curve.area_above(first.curve)), _told(one.curve.sensitivity_above(first.curve))]
        false, share = one.used
        used = "–" if math.isnan(false) else f"{share:.3f} at {false:.1f} mL"
        found = [_told(one.curve.area()), changes[0], _told(one.curve.sensitivity()), changes[1]]
        rows.append([name, *found, _told(one.curve.detection()), used])
    return rows


def _told(estimate: Interval) -> str:
    return wording.with_interval(estimate, 3)


def curves_markdown(curves: Mapping[str, ArmCurve], lacking: Sequence[str]) -> str:
    """A section for comparison.md."""
    lines: list[str] = []
    if curves:
        heading, *rows = curve_rows(curves)
        lines += ["| " + " | ".join(line) + " |" for line in (heading, ["---"] * len(heading), *rows)]
        lines += ["", f"Differences are from {rows[0][0]}. {READING}", ""]
    return "\n".join(["## Operating curves", "", *lines, *(f"- {reason}" for reason in lacking)]) + "\n"


def draw_curves(panels: Mapping[str, Mapping[str, ArmCurve]], path: Path) -> None:
    """The figure, black on white; an earlier one goes in any case, and no file appears without curves.

    Args:
        panels: title → curves by the names of their runs, drawn side by side on the same axes; none without curves.
        path: PNG to write.
    """
    path.unlink(missing_ok=True)
    shown = {title: curves for title, curves in panels.items() if curves}
    if not shown:
        return
    figure = Figure(figsize=(7.2 * len(shown), 5.0), layout="constrained", facecolor="white")
    end = max(shown_to(curves) for curves in shown.values())
    for axes, (title, curves) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        axes.set_title(title, fontsize=10)
        _draw_panel(axes, curves, end)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150)


def _draw_panel(axes: Axes, curves: Mapping[str, ArmCurve], end: float) -> None:
    for number, (name, one) in enumerate(curves.items()):
        at_ml, mean, low, high = one.drawn(end)
        axes.fill_between(at_ml, low, high, color=f"C{number}", alpha=0.13, linewidth=0)
        axes.plot(at_ml, mean, color=f"C{number}", linewidth=1.8, label=name)
        axes.plot(*one.used, "o", color=f"C{number}", markersize=7, markeredgecolor="white")
    axes.axvline(AT_ML, color="0.5", linewidth=0.8, linestyle=":")
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    ticks = [t for t in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500) if t <= end]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set(xlim=(0, end), ylim=(0, 1.02), xlabel="false lesion volume, mean over patients, mL")
    axes.set_ylabel("share of lesion volume found, mean over patients")
    axes.grid(linewidth=0.4, alpha=0.6)
    axes.legend(loc="lower right", fontsize=9, frameon=False)


def shown_to(curves: Mapping[str, ArmCurve]) -> float:
    """Where the axis of false volumes ends, mL: all dots are on it."""
    used = [one.used[0] for one in curves.values() if not math.isnan(one.used[0])]
    return max([SHOWN_ML, *(1.1 * false for false in used)])
