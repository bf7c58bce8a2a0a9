"""Rows of the report's tables: numbers become text here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctp_ldm.metrics import Metric
from ctp_ldm.paths import shown_path
from ctp_ldm.report import wording
from ctp_ldm.report.arms import Arm
from ctp_ldm.report.differences import CEILING, LEVEL
from ctp_ldm.report.ranking import Ranking
from ctp_ldm.report.study import NEED_SEGMENTER, Study

NEEDS_SEGMENTER = "needs a segmenter: ctp-ldm test --segmenter CHECKPOINT"
DIRECTION = {"higher": "higher is better", "lower": "lower is better", "zero": "best at zero", None: ""}


@dataclass(frozen=True)
class Cell:
    """Mean, its interval, a note below it, and what a difference says: see `Study.verdict`."""

    mean: str
    interval: str
    note: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Row:
    """A metric; a cell for each arm, None where it has none, for which `missing` stands."""

    title: str
    hint: str
    primary: bool
    cells: list[Cell | None]
    missing: str = wording.NONE


def primary_rows(study: Study) -> list[Row]:
    """Dice and false lesion volume, missing or not, and beside them what the segmenter reaches on real images."""
    columns = list(dict.fromkeys([*NEED_SEGMENTER, *(c for c in study.metrics if study.metric(c).primary)]))
    if any("lesion_dice_real" in arm.patients for arm in study.arms):
        columns.insert(1, "lesion_dice_real")
    rows = [_means(study, column) for column in columns]
    if all(cell is None for row in rows for cell in row.cells):
        # Without a segmenter errors in the lesion are the best there is; they come second all the same.
        rows += [_means(study, f"lesion_mae_{target}") for target in study.targets]
    return rows


def secondary_rows(study: Study) -> list[Row]:
    """All other metrics."""
    shown = {*NEED_SEGMENTER, "lesion_dice_real"}
    return [_means(study, c) for c in study.metrics if c not in shown and not study.metric(c).primary]


def difference_rows(study: Study) -> list[Row]:
    """Paired differences of every arm but the reference."""
    rows = []
    for column in study.metrics:
        metric = study.metric(column)
        cells = [_change(study, column, metric, arm) for arm in study.others]
        if column not in CEILING and any(cells):
            rows.append(Row(metric.title, _hint(metric), metric.primary, cells))
    return rows


def difference_note(study: Study) -> str:
    """What the differences and their labels are, and over which comparisons p is adjusted."""
    told = (
        "Mean over patients of the paired difference [95 % interval]. Better or worse: the interval excludes "
        f"zero and, where there is a p, it is at most {LEVEL:g}; intervals without p are not adjusted for their number."
        f" {wording.LESS_NOTE}"
    )
    if not study.tests:
        return told
    names = list(dict.fromkeys(name for name, _ in study.tests))
    titles = list(dict.fromkeys(study.metric(column).title for _, column in study.tests))
    return (
        f"{told} p: two-sided t test of the interval, which excludes zero where p before adjustment is below 0.05; "
        f"adjusted by Holm, from the least p on, over {len(study.tests)} comparisons: {', '.join(titles)} of "
        f"{', '.join(names)} against {study.reference.name}."
    )


def case_list(study: Study, ranking: Ranking, pages: dict[str, str], reasons: dict[str, str]) -> dict[str, Any]:
    """The table of patients, for the template.

    Args:
        study: of the patients.
        ranking: their order, and what the list is ranked by.
        pages: case → address of its viewer.
        reasons: case → why it has none.
    """
    wanted = [*NEED_SEGMENTER, "volume_error_ml", *(f"lesion_mae_{target}" for target in study.targets)]
    if not any(c in study.metrics for c in NEED_SEGMENTER):
        wanted += [f"brain_mae_{target}" for target in study.targets]
    shown = [c for c in dict.fromkeys([*wanted, ranking.column]) if c in study.metrics]
    groups = [{"title": "Lesion", "unit": "mL", "span": 1}]
    columns: list[dict[str, Any]] = [
        {"index": 1, "short": "reference", "full": "reference lesion volume", "better": None, "ranking": False}
    ]
    series = [(study.volumes_ml, 1)]
    for column in shown:
        metric = study.metric(column)
        arms = [arm for arm in study.arms if column in arm.patients]
        groups.append({"title": metric.title, "unit": metric.unit, "span": len(arms)})
        for arm in arms:
            chosen = column == ranking.column and arm is ranking.arm
            full = f"{metric.title}, {arm.name}" if len(study.arms) > 1 else metric.title
            columns.append(
                {"index": len(columns) + 1, "short": arm.name, "full": full}
                | {"better": metric.better, "ranking": chosen}
            )
            series.append((arm.patients[column], metric.decimals))
    rows = [
        {
            "case": case,
            "page": pages.get(case),
            "why": reasons.get(case, ""),
            "cells": [_list_cell(float(values.loc[case]), decimals) for values, decimals in series],
        }
        for case in [*ranking.ranked, *ranking.unranked]
    ]
    return {"groups": groups, "columns": columns, "rows": rows}


def case_numbers(study: Study, case: str) -> list[dict[str, Any]]:
    """A patient's metrics in every arm, for its page."""
    facts = ["reference_ml" if "reference_ml" in study.reference.patients else "lesion_ml"]
    rows = []
    for column in [*facts, *study.metrics]:
        metric = study.metric(column)
        values = [float(a.patients.loc[case, column]) if column in a.patients else math.nan for a in study.arms]
        if not all(math.isnan(v) for v in values):
            title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
            texts = [wording.value(v, metric.decimals) for v in values]
            rows.append({"title": title, "primary": metric.primary, "texts": texts})
    return rows


def segmenter_note(study: Study) -> str:
    """Which segmenter found the lesions, and how well it does on real images: beside every figure that hangs on it."""
    told = [run.segmenter for arm in study.arms for run in arm.runs if run.segmenter]
    if not any(c in arm.patients for arm in study.arms for c in NEED_SEGMENTER):
        return ""
    direct = "".join(f"; {arm.name} finds lesions itself" for arm in study.arms if not arm.makes_images)
    if not any(arm.makes_images for arm in study.arms):
        return "Lesions were found in the source, without synthetic images."
    name = f"{told[0]['path']} ({told[0]['sha256'][:12]})" if told else "a segmenter that the run does not name"
    who = f"Lesions were found by {name}"
    means = [(arm, mean) for arm in study.arms if (mean := study.mean("lesion_dice_real", arm))]
    if not means:
        return f"{who}; its Dice on the real images is not known{direct}."
    ceiling = wording.with_interval(means[0][1], 3)
    return f"{who}; on the real images its own Dice in patients with lesion is {ceiling}{direct}."


def _means(study: Study, column: str) -> Row:
    metric = study.metric(column)
    cells = [_mean(study, column, metric, arm) for arm in study.arms]
    missing = NEEDS_SEGMENTER if column in NEED_SEGMENTER else wording.NONE
    ceiling = column == "lesion_dice_real"
    title = "Dice of the segmenter on real images" if ceiling else metric.title
    hint = "what it reaches where nothing is synthetic" if ceiling else _hint(metric)
    return Row(title, hint, metric.primary, cells, missing)


def _mean(study: Study, column: str, metric: Metric, arm: Arm) -> Cell | None:
    mean = study.mean(column, arm)
    if mean is None:
        return None
    note = f"n = {mean.patients}"
    if len(arm.runs) > 1:
        deviation = wording.value(arm.seed_deviation[column], metric.decimals + 1)
        note += f"; {len(arm.runs)} seeds, SD {deviation}"
    return Cell(*wording.mean_and_interval(mean, metric.decimals), note)


def _change(study: Study, column: str, metric: Metric, arm: Arm) -> Cell | None:
    change = study.difference(column, arm)
    if change is None:
        return None
    test = study.tests.get((arm.name, column))
    note = "" if test is None else f"; p = {wording.p_value(test)} (Holm)".replace("= <", "<")
    if left := study.left_out(column, arm):
        note += f"; n = {change.patients}, {left} left out"
    return Cell(*wording.mean_and_interval(change, metric.decimals), note, study.verdict(column, arm))


def _hint(metric: Metric) -> str:
    return "; ".join(filter(None, [metric.unit, DIRECTION[metric.better]]))


def _list_cell(amount: float, decimals: int) -> dict[str, str]:
    return {"value": "" if math.isnan(amount) else f"{amount:.8g}", "text": wording.value(amount, decimals)}


def run_rows(study: Study) -> list[dict[str, Any]]:
    """What each run is, with the segmenter's ceiling."""
    return [{"arm": arm.name, "texts": _run(study, arm, i)} for arm in study.arms for i in range(len(arm.runs))]


def _run(study: Study, arm: Arm, number: int) -> Sequence[str]:
    run = arm.runs[number]
    told, ceiling = run.segmenter, study.mean("lesion_dice_real", arm)
    return [
        shown_path(run.folder),
        str(run.summary.get("stage") or "not told"),
        shown_path(str(run.summary["checkpoint"])) if run.summary.get("checkpoint") else "not told",
        *(str(run.summary[key]) if run.summary.get(key) is not None else "not told" for key in ("seed", "samples")),
        f"{told['path']} ({told['sha256'][:12]})" if told else "none" if arm.makes_images else "finds lesions itself",
        wording.with_interval(ceiling, 3) if ceiling else wording.NONE,
    ]
