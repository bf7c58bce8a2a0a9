"""What `check` found: a table on the screen, and one in a file."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from ctp_ldm.data import Findings, Fingerprint, in_one_line
from ctp_ldm.report.download import safe_cell

SHOWN = 60
LOG_COLUMNS = 210


def show_findings(fingerprint: Fingerprint, console: Console | None = None) -> None:
    """A line for each case, those with faults and remarks first; then ranges over all of them.

    Args:
        fingerprint: the checked data set.
        console: where to; the screen unless told.
    """
    # A file or a pipe has no width of its own, and 80 columns are too few for the numbers of a perfusion series.
    console = console or Console(width=None if sys.stdout.isatty() else LOG_COLUMNS)
    roles = [role for role in fingerprint.task if any(role in f.facts for f in fingerprint.cases.values())]
    order = sorted(fingerprint.cases.values(), key=lambda f: (not f.faults, not f.remarks, f.name))
    columns = {name: read for role in roles for name, read in _columns(role, fingerprint).items()}
    table = Table(title=f"{len(order)} cases", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("case", no_wrap=True)
    table.add_column("grid, mm", no_wrap=True)
    for heading in ("brain, mL", "lesion, mL", *columns):
        table.add_column(heading, justify="right")
    table.add_column("seen")
    for findings in order[:SHOWN]:
        table.add_row(*_cells(findings, list(columns.values())))
    console.print(table)
    if len(order) > SHOWN:
        console.print(f"… and {len(order) - SHOWN} more (all of them: --csv FILE)")
    for key, values in fingerprint.summary().items():
        if key in ("grid.spacing.0", "grid.spacing.2", "lesion.ml") or key.endswith((".frames", ".arrival", ".median")):
            console.print("{}: median {median:.4g}, {min:.4g} … {max:.4g} in {n} cases".format(key, **values))
    if told := in_one_line(f.facts.get("resampling", {}) for f in fingerprint.cases.values()):
        console.print(told)
    for role in roles:
        units = fingerprint.summary().get(f"{role}.unit", {}).get("counts", {})
        if units:
            console.print(f"unit of {role}: " + ", ".join(f"{unit} ({count})" for unit, count in units.items()))


def write_findings(fingerprint: Fingerprint, path: Path) -> None:
    """Every fact, a line for each case, as CSV; no text is a formula, though a case with an unfit name stands in it.

    Args:
        fingerprint: the checked data set.
        path: of the file; its folder is made when missing.
    """
    rows = [
        {"case": f.name, "faults": " | ".join(f.faults), "remarks": " | ".join(f.remarks), **f.flat()}
        for f in fingerprint.cases.values()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    safe = [{k: safe_cell(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    pd.DataFrame(safe).to_csv(path, index=False, float_format="%.6g")


def _columns(role: str, fingerprint: Fingerprint) -> dict[str, Callable[[Findings], str]]:
    """Heading → what a case shows there: timing and noise of phases over a frame's of a series, else the median."""
    shown = [("median", role, "{:.3g}")]
    if any("frames" in f.facts.get(role, {}) for f in fingerprint.cases.values()):
        shown = [
            ("frames", f"{role}: frames", "{:d}"),
            ("interval", "every, s", "{:.3g}"),
            ("arrival", "bolus, s", "{:.1f}"),
            ("enhancement", "peak, HU", "{:.1f}"),
            ("noise", "noise", "{:.2f}"),
            ("motion", "moves, mm", "{:.1f}"),
        ]
    return {heading: partial(_fact, group=role, key=key, form=form) for key, heading, form in shown}


def _fact(findings: Findings, group: str, key: str, form: str) -> str:
    value = findings.facts.get(group, {}).get(key)
    return "–" if value is None else form.format(value)


def _cells(findings: Findings, columns: Sequence[Callable[[Findings], str]]) -> list[str]:
    grid = findings.facts.get("grid")
    place = "–" if grid is None else "{0:.3g} × {2:.3g} {order}".format(*grid["spacing"], order=grid["orientation"])
    made = findings.facts.get("resampling", {}).get("thickness", [0, 0])
    if made[0] != made[1]:
        place += f", slabs of {made[1]:.3g}"
    seen = [f"[red]{len(findings.faults)} fault(s)[/red]"] if findings.faults else []
    return [
        findings.name,
        place,
        _fact(findings, "brain", "ml", "{:.0f}"),
        _fact(findings, "lesion", "ml", "{:.1f}"),
        *(column(findings) for column in columns),
        "; ".join([*seen, *findings.remarks]),
    ]
