"""What `check` found: a table on the screen, and one in a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from ctp_ldm.data import Findings, Fingerprint

SHOWN = 60
_GROUPS = ("grid", "brain", "lesion")


def show_findings(fingerprint: Fingerprint, console: Console | None = None) -> None:
    """A line for each case, those with faults and remarks first, and the ranges over all of them.

    Args:
        fingerprint: the checked data set.
        console: where to; the screen unless told.
    """
    console = console or Console()
    roles = [role for role in fingerprint.task if any(role in f.facts for f in fingerprint.cases.values())]
    order = sorted(fingerprint.cases.values(), key=lambda f: (not f.faults, not f.remarks, f.name))
    table = Table(title=f"{len(order)} cases", title_justify="left")
    for heading in ("case", "grid, mm", "brain, mL", "lesion, mL", *roles, "seen"):
        table.add_column(heading, justify="right" if heading.endswith("mL") else "left")
    for findings in order[:SHOWN]:
        table.add_row(*_cells(findings, roles))
    console.print(table)
    if len(order) > SHOWN:
        console.print(f"… and {len(order) - SHOWN} more with nothing to remark" + " (all of them: --csv FILE)")
    summary = fingerprint.summary()
    for key in ("grid.spacing.0", "grid.spacing.2", "lesion.ml", *(f"{r}.{k}" for r in roles for k in ("frames", "median"))):
        if "median" in summary.get(key, {}):
            console.print("{}: median {median:.4g}, {min:.4g} … {max:.4g} in {n} cases".format(key, **summary[key]))
    if fingerprint.units:
        console.print("units: " + ", ".join(f"{role} {unit}" for role, unit in fingerprint.units.items()))


def write_findings(fingerprint: Fingerprint, path: Path) -> None:
    """Every fact, a line for each case, as CSV.

    Args:
        fingerprint: the checked data set.
        path: of the file; its folder is made when missing.
    """
    rows = [
        {"case": f.name, "faults": " | ".join(f.faults), "remarks": " | ".join(f.remarks), **f.flat()}
        for f in fingerprint.cases.values()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False, float_format="%.6g")


def _cells(findings: Findings, roles: list[str]) -> list[str]:
    grid, brain, lesion = (findings.facts.get(group, {}) for group in _GROUPS)
    spacing = " × ".join(f"{s:.3g}" for s in grid.get("spacing", []))
    seen = [f"[red]{len(findings.faults)} fault(s)[/red]"] if findings.faults else []
    return [
        findings.name,
        f"{spacing} {grid.get('orientation', '')}".strip() or "–",
        f"{brain['ml']:.0f}" if brain else "–",
        f"{lesion['ml']:.1f}" if lesion else "–",
        *(_role(findings.facts.get(role, {})) for role in roles),
        "; ".join([*seen, *findings.remarks]) or "good",
    ]


def _role(facts: Mapping[str, Any]) -> str:
    if not facts:
        return "–"
    if "frames" in facts:
        return (
            f"{facts['frames']} × {facts['interval']:.3g} s, bolus {facts['arrival']:.1f} s +{facts['enhancement']:.1f} HU, "
            f"moves {facts['motion']:.1f} mm"
        )
    return f"{facts['median']:.3g}" + (f" (file: {facts['unit']})" if "unit" in facts else "")
