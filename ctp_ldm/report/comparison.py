"""Runs on the same patients, side by side."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from ctp_ldm.report.arms import read_arms, require_comparable
from ctp_ldm.report.differences import PATIENT, compare_arms
from ctp_ldm.report.pictures import draw_comparison
from ctp_ldm.report.runs import ComparisonError

__all__ = ["ComparisonError", "compare_runs"]


def compare_runs(runs: Sequence[Path], out: Path) -> pd.DataFrame:
    """Means of each run with 95 % intervals over patients, and paired differences from the first run.

    Args:
        runs: run folders, the reference first; `X-seed1`, `X-seed2` are averaged per patient.
        out: receives comparison.csv, comparison.md, comparison.png.

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
        if odd:
            print(f"note: {first.name} and {arm.name} do not both have {', '.join(odd)}")
    result = compare_arms(arms, first)
    out.mkdir(parents=True, exist_ok=True)
    result.to_csv(out / "comparison.csv", index=False, float_format="%.6g")
    (out / "comparison.md").write_text(_markdown(result, first.name))
    words = draw_comparison(arms, out / "comparison.png")
    with (out / "comparison.md").open("a") as file:
        file.write(f"\n{words}\n")
    _show(result, first.name)
    print(f"table: {out / 'comparison.md'}")
    if (out / "comparison.png").exists():
        print(f"figure: {out / 'comparison.png'}")
    print(words)
    return result


def _text(values: Sequence[float]) -> str:
    mean, low, high = values
    if math.isnan(mean):
        return "–"
    return f"{mean:.4g}" if math.isnan(low) else f"{mean:.4g} [{low:.4g}, {high:.4g}]"


def _cells(result: pd.DataFrame, first: str) -> tuple[list[str], list[list[str]]]:
    labels = list(dict.fromkeys(result["run"]))
    heading = ["metric", "n", *labels, *[f"{label} − {first}" for label in labels if label != first]]
    rows = []
    for metric, group in result.groupby("metric", sort=False):
        by_run = group.set_index("run").reindex(labels)
        means = [_text(by_run.loc[label, ["mean", "low", "high"]]) for label in labels]
        differences = ["difference", "difference_low", "difference_high"]
        changes = [_text(by_run.loc[label, differences]) for label in labels if label != first]
        rows.append([str(metric), f"{by_run['patients'].max():.0f}", *means, *changes])
    return heading, rows


def _markdown(result: pd.DataFrame, first: str) -> str:
    heading, rows = _cells(result, first)
    lines = [heading, ["---"] * len(heading), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"Mean over n patients [95 % interval]; differences are paired by patient.\n\n{table}\n"


def _show(result: pd.DataFrame, first: str) -> None:
    heading, rows = _cells(result, first)
    table = Table(title="mean over patients [95 % interval]; differences paired by patient")
    for i, name in enumerate(heading):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=max(120, 24 * len(heading))).print(table)
