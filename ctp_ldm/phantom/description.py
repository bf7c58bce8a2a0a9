"""`ctp-ldm phantom --describe`: a table and figures of what a phantom is like."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from ctp_ldm.phantom.calibration import Patients, measure, summarise
from ctp_ldm.phantom.files import json_bytes, write_file
from ctp_ldm.phantom.mix import Mix, SizeName
from ctp_ldm.phantom.parallel import shared_atlas
from ctp_ldm.phantom.patient import Settings
from ctp_ldm.phantom.pictures import draw_calibration, draw_cases, png_bytes
from ctp_ldm.phantom.simulate import draw_streams, draw_truth, scan_ct, scan_mri
from ctp_ldm.phantom.targets import TARGETS

SHOWN = 12
LEAST_PATIENTS = 12


def describe_phantom(
    out: Path, mix: Mix, patients: int, seed: int, size: SizeName, workers: int = 2
) -> dict[str, float]:
    """Measure simulated patients; writes `calibration.{json,md,png}` and `cases.png`, and prints the table.

    Strokes of large arteries and lacunes are simulated for it, whatever their share of the mix. Ranges are those of
    early MRI, so with follow-up MRI nothing is marked as missed.

    Args:
        out: folder, made when missing; files of an earlier description in it are written anew.
        mix: how often what else happens.
        patients: strokes of large arteries, at least 12; half as many lacunes, a quarter as many without lesion.
        seed, size: of the patients.
        workers: processes.

    Returns:
        Key of each target → what was found.

    Raises:
        ValueError: too few patients.
        NotADirectoryError: `out` is a file.
    """
    if patients < LEAST_PATIENTS:
        raise ValueError(f"cases: found {patients}, expected at least {LEAST_PATIENTS} to describe a phantom")
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder for the description")
    settings = Settings(seed, size, mix)
    groups = measure(settings, patients, workers)
    summary = summarise(settings, groups)
    found = {target.key: summary[target.key] for target in TARGETS}
    content = {"patients": patients, "seed": seed, "size": size, "mix": asdict(mix), "found": found}
    write_file(out / "calibration.json", json_bytes(content))
    write_file(out / "calibration.md", _table(found, mix).encode())
    _draw(out, settings, groups["large artery"], found, patients)
    _show(found, mix, patients)
    print(f"table and figures: {out}")
    return found


def _table(found: dict[str, float], mix: Mix) -> str:
    lines = ["| figure | found | expected | source |", "|---|---|---|---|"]
    for target in TARGETS:
        mark = " ✗" if mix.mri == "early" and target.missed(found) else ""
        shown = f"shown only: {target.why}; " if target.why else ""
        unit = f" {target.unit}" if target.unit else ""
        lines.append(
            f"| {target.name} | {found[target.key]:.3g}{unit}{mark} | {target.low:g}–{target.high:g} "
            f"| {shown}{target.source} |"
        )
    return "\n".join(lines) + "\n"


def _draw(out: Path, settings: Settings, ill: Patients, found: dict[str, float], patients: int) -> None:
    chosen = np.random.default_rng(settings.seed).choice(np.arange(1, patients + 1), SHOWN, replace=False)
    cases = []
    for index in sorted(int(i) for i in chosen):
        rng = draw_streams(settings, index)
        truth = draw_truth(rng, settings, index, shared_atlas())
        cases.append((truth, scan_ct(rng, truth), scan_mri(rng, truth)))
    typical = next((t for t, *_ in cases if t.patient.kind == "territorial" and not t.patient.reperfused), cases[0][0])
    write_file(out / "calibration.png", png_bytes(draw_calibration(ill, found, typical)))
    write_file(out / "cases.png", png_bytes(draw_cases(cases)))


def _show(found: dict[str, float], mix: Mix, patients: int) -> None:
    table = Table(
        title=f"{patients} simulated strokes of large arteries, and others", title_justify="left", box=box.SIMPLE_HEAD
    )
    for heading in ("figure", "found", "expected", "source"):
        table.add_column(heading, justify="right" if heading in ("found", "expected") else "left")
    for target in TARGETS:
        judged = mix.mri == "early" and not target.why
        colour = "dim" if not judged else "red" if target.missed(found) else "green"
        value = f"[{colour}]{found[target.key]:.3g}[/] {target.unit}"
        table.add_row(target.name, value, f"{target.low:g} … {target.high:g}", target.source)
    Console().print(table)
