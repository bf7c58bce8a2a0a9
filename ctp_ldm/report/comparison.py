"""Runs on the same patients, side by side."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ctp_ldm.metrics import bootstrap_mean
from ctp_ldm.panels import Panel, Row, draw_rows, source_panel, window


class ComparisonError(ValueError):
    """Runs that cannot be compared: one was not tested, or on other patients."""


def compare_runs(runs: Sequence[Path], out: Path) -> pd.DataFrame:
    """Means of each run with 95 % bootstrap intervals over patients, and paired differences from the first run.

    Args:
        runs: run folders, the reference first.
        out: receives comparison.csv, comparison.md, comparison.png.

    Returns:
        A row for each metric and run: mean, interval, difference from the first run and its interval.

    Raises:
        ComparisonError: fewer than two runs, one without test results, or on other patients.
    """
    if len({Path(run).resolve() for run in runs}) < max(2, len(runs)):
        raise ComparisonError(f"expected at least two different run folders, found {[str(run) for run in runs]}")
    tables = {_label(run, runs): _read(Path(run)) for run in runs}
    first = next(iter(tables))
    for label, table in tables.items():
        if list(table.index) != list(tables[first].index):
            odd = sorted(set(table.index) ^ set(tables[first].index))
            raise ComparisonError(f"runs {first} and {label} were tested on different patients, such as {odd[:5]}")
        if list(table.columns) != list(tables[first].columns):
            raise ComparisonError(f"runs {first} and {label} have different metrics: {list(table.columns)}")
    rows = []
    for metric in tables[first].columns.drop("lesion_ml"):
        for label, table in tables.items():
            value = bootstrap_mean(table[metric].tolist())
            change = bootstrap_mean((table[metric] - tables[first][metric]).tolist())
            rows.append(
                {"metric": metric, "run": label, "patients": value.patients}
                | {"mean": value.mean, "low": value.low, "high": value.high}
                | {"difference": change.mean, "difference_low": change.low, "difference_high": change.high}
            )
    result = pd.DataFrame(rows)
    out.mkdir(parents=True, exist_ok=True)
    result.to_csv(out / "comparison.csv", index=False, float_format="%.6g")
    (out / "comparison.md").write_text(_markdown(result, first))
    targets = [c.removeprefix("psnr_") for c in tables[first].columns if c.startswith("psnr_")]
    folders = {_label(run, runs): Path(run) for run in runs}
    _figure(targets, folders).savefig(out / "comparison.png", dpi=110)
    _show(result, first)
    print(f"table: {out / 'comparison.md'}\nfigure: {out / 'comparison.png'}")
    return result


def _label(run: Path, runs: Sequence[Path]) -> str:
    names = [Path(r).name for r in runs]
    return Path(run).name if names.count(Path(run).name) == 1 else str(run)


def _read(run: Path) -> pd.DataFrame:
    path = run / "test" / "patients.csv"
    if not path.is_file():
        raise ComparisonError(f"{path} is missing: run ctp-ldm test for {run} first")
    return pd.read_csv(path, index_col="case", dtype={"case": str}).sort_index()


def _text(values: Sequence[float]) -> str:
    mean, low, high = values
    return f"{mean:.4g}" if math.isnan(low) else f"{mean:.4g} [{low:.4g}, {high:.4g}]"


def _cells(result: pd.DataFrame, first: str) -> tuple[list[str], list[list[str]]]:
    labels = list(dict.fromkeys(result["run"]))
    heading = ["metric", "n", *labels, *[f"{label} − {first}" for label in labels if label != first]]
    rows = []
    for metric, group in result.groupby("metric", sort=False):
        by_run = group.set_index("run")
        means = [_text(by_run.loc[label, ["mean", "low", "high"]]) for label in labels]
        differences = ["difference", "difference_low", "difference_high"]
        changes = [_text(by_run.loc[label, differences]) for label in labels if label != first]
        rows.append([str(metric), str(by_run["patients"].iloc[0]), *means, *changes])
    return heading, rows


def _markdown(result: pd.DataFrame, first: str) -> str:
    heading, rows = _cells(result, first)
    lines = [heading, ["---"] * len(heading), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"Mean over n patients [95 % bootstrap interval]; differences are paired by patient.\n\n{table}\n"


def _show(result: pd.DataFrame, first: str) -> None:
    heading, rows = _cells(result, first)
    table = Table(title="mean over patients [95 % bootstrap interval]; differences paired by patient")
    for i, name in enumerate(heading):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=max(120, 24 * len(heading))).print(table)


def _figure(targets: Sequence[str], folders: Mapping[str, Path]) -> Figure:
    """A row for each patient that every run has drawn: source, then real and each run's image of every target."""
    drawn = {label: _pictures(folder) for label, folder in folders.items()}
    first = next(iter(drawn.values()))
    rows = []
    for case in [c for c in first if all(c in pictures for pictures in drawn.values())]:
        panels = [source_panel(first[case])]
        for i, target in enumerate(targets):
            real = first[case]["real"][i]
            high = window(real, first[case]["brain"])
            panels.append(Panel(real, f"{target} real", "gray", 0.0, high))
            panels += [Panel(p[case]["synthetic"][i], f"{target} {run}", "gray", 0.0, high) for run, p in drawn.items()]
        rows.append(Row(case, panels, first[case]["lesion"]))
    return draw_rows(rows)


def _pictures(run: Path) -> dict[str, dict[str, np.ndarray]]:
    path = run / "pictures" / "test.npz"
    cases: dict[str, dict[str, np.ndarray]] = {}
    if path.is_file():
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                case, name = key.rsplit("/", 1)
                cases.setdefault(case, {})[name] = archive[key]
    return cases
