"""Runs on the same patients, side by side."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ctp_ldm.metrics import FINDS_LESS, Interval, Metric, judgement
from ctp_ldm.report import wording
from ctp_ldm.report.arms import read_arms, require_comparable
from ctp_ldm.report.curves import curves_markdown, draw_curves, read_curves
from ctp_ldm.report.differences import PATIENT, compare_arms, interval_note
from ctp_ldm.report.pictures import draw_comparison
from ctp_ldm.report.runs import ComparisonError

__all__ = ["ComparisonError", "compare_runs"]

FIRST = ("detected_10ml", "lesion_dice", "false_ml", "lesion_mae_", "brain_mae_")
"""Columns, or their beginnings, that models are judged by: they stand first, and alone on the screen."""


def compare_runs(runs: Sequence[Path], out: Path) -> pd.DataFrame:
    """Means of each run with 95 % intervals over patients and seeds, and paired differences from the first run.

    Args:
        runs: run folders, the reference first; `X-seed1`, `X-seed2` are averaged per patient.
        out: receives comparison.csv, comparison.md, comparison.png, curves.png.

    Returns:
        A row for each metric and run: see `compare_arms`.

    Raises:
        ComparisonError: fewer than two runs, one without test results, or runs that cannot be compared.
    """
    arms = read_arms(runs)
    if len(arms) < 2:
        raise ComparisonError(
            f"expected at least two different run folders, found {[str(run) for run in runs]} "
            "(X-seed1, X-seed2 count as one)"
        )
    require_comparable(arms)
    first = arms[0]
    for arm in arms:
        if not set(arm.patients) & set(first.patients) - set(PATIENT):
            raise ComparisonError(f"runs {first.name} and {arm.name} have no metric in common: test both alike")
        odd = sorted(set(arm.patients) ^ set(first.patients))
        if odd and arm.makes_images == first.makes_images:
            print(f"note: {first.name} and {arm.name} do not both have {', '.join(odd)}")
    result = _first_things_first(compare_arms(arms, first))
    out.mkdir(parents=True, exist_ok=True)
    result.to_csv(out / "comparison.csv", index=False, float_format="%.6g")
    (out / "comparison.md").write_text(_markdown(result, first.name, interval_note(arms)))
    words = draw_comparison(arms, out / "comparison.png")
    curves, lacking = read_curves(arms)
    draw_curves({"": curves}, out / "curves.png")
    with (out / "comparison.md").open("a") as file:
        file.write(f"\n{words}\n\n{curves_markdown(curves, lacking)}")
    _show(result, first.name)
    print(interval_note(arms))
    print(f"table: {out / 'comparison.md'}")
    if (out / "comparison.png").exists():
        print(f"figure: {out / 'comparison.png'}")
    if curves:
        print(f"operating curves: {out / 'curves.png'}")
    print("\n".join([words, *lacking]))
    return result


def _first_things_first(result: pd.DataFrame) -> pd.DataFrame:
    """Rows of the metrics in `FIRST` in that order, then the others."""
    order = [column for name in FIRST for column in result["metric"] if column.startswith(name)]
    places = {column: i for i, column in reversed(list(enumerate([*order, *result["metric"]])))}
    return result.sort_values("metric", key=lambda names: names.map(places), kind="stable", ignore_index=True)


def _cells(result: pd.DataFrame, first: str) -> tuple[list[str], dict[str, list[str]]]:
    """A heading, and metric → its row of text."""
    labels = list(dict.fromkeys(result["run"]))
    heading = ["metric", "n", *labels, *[f"{label} − {first}" for label in labels if label != first]]
    rows = {}
    for name, group in result.groupby("metric", sort=False):
        metric = wording.metric(str(name), {})
        title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
        by_run = group.set_index("run").reindex(labels)
        means = [by_run.loc[label, ["mean", "low", "high"]] for label in labels]
        patients = int(by_run["patients"].max())
        estimates = [Interval(float(a), float(b), float(c), patients) for a, b, c in means]
        texts = [wording.with_interval(estimate, metric.decimals) for estimate in estimates]
        changes = [_change(by_run.loc[label], metric) for label in labels if label != first]
        rows[str(name)] = [title, f"{patients}", *texts, *changes]
    return heading, rows


def _change(row: pd.Series, metric: Metric) -> str:
    """A difference, with what keeps it from being a gain."""
    if math.isnan(row["difference"]):
        return wording.NONE
    mean, low, high = (float(row[name]) for name in ("difference", "difference_low", "difference_high"))
    change, lacking = Interval(mean, low, high, int(row["pairs"])), int(row["left_out"])
    notes = [f"n = {change.patients}, {lacking} left out"] if lacking else []
    if judgement(metric, change, row["finds"], lacking) == FINDS_LESS:
        notes.append(FINDS_LESS)
    return "; ".join([wording.with_interval(change, metric.decimals), *notes])


def _markdown(result: pd.DataFrame, first: str, over: str) -> str:
    heading, rows = _cells(result, first)
    lines = [heading, ["---"] * len(heading), *rows.values()]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    told = f"Mean over n patients [95 % interval]; differences are paired by patient. {over} {wording.LESS_NOTE}"
    return f"{told}\n\n{table}\n"


def _show(result: pd.DataFrame, first: str) -> None:
    """What comes first, or all where none of it is there; differences below, so that lines stay short."""
    heading, every = _cells(result, first)
    chosen = [row for name, row in every.items() if name.startswith(FIRST)] or list(every.values())
    runs = result["run"].nunique()
    _print_table("mean over n patients [95 % interval]", heading[: 2 + runs], [row[: 2 + runs] for row in chosen])
    differences = [heading[0], *heading[2 + runs :]]
    rows = [[row[0], *row[2 + runs :]] for row in chosen]
    _print_table("difference, paired by patient [95 % interval]", differences, rows)


def _print_table(title: str, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(heading):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=max(120, 24 * len(heading))).print(table)
