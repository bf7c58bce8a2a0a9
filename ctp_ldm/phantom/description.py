"""`ctp-ldm phantom --describe`: tables and figures of what a phantom is like."""

import json
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from ctp_ldm.phantom.calibration import TARGETS, calibrate
from ctp_ldm.phantom.mix import PRESETS, PresetName, SizeName
from ctp_ldm.phantom.oracle import bracket
from ctp_ldm.phantom.parallel import shared_atlas
from ctp_ldm.phantom.patient import Settings
from ctp_ldm.phantom.pictures import draw_calibration, draw_cases
from ctp_ldm.phantom.simulate import draw_streams, draw_truth, scan_ct, scan_mri

SHOWN = 12
LEAST_PATIENTS = 12


def describe_phantom(
    out: Path, preset: PresetName, patients: int, seed: int, size: SizeName, workers: int = 2
) -> dict[str, float]:
    """Measure simulated patients; writes `calibration.{json,md,png}` and `cases.png`, and prints the tables.

    Args:
        out: folder, made when missing.
        preset: whose mix.
        patients: how many, at least 12.
        seed, size: of the patients.
        workers: processes.

    Returns:
        Name of each target → what was found.

    Raises:
        ValueError: too few patients.
    """
    if patients < LEAST_PATIENTS:
        raise ValueError(f"cases: found {patients}, expected at least {LEAST_PATIENTS} to describe a phantom")
    settings = Settings(seed, size, PRESETS[preset].mix)
    measured = calibrate(settings, patients, workers)
    found = {target.name: target.measure(measured) for target in TARGETS}
    oracles = bracket(settings, patients, workers)
    out.mkdir(parents=True, exist_ok=True)
    content = {"preset": preset, "patients": patients, "seed": seed, "size": size, "found": found, "oracles": oracles}
    (out / "calibration.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))
    lines = ["| figure | found | expected | source |", "|---|---|---|---|"]
    lines += [
        f"| {t.name} | {found[t.name]:.3g} {t.unit}{'' if t.low <= found[t.name] <= t.high else ' ✗'} "
        f"| {t.low:g}–{t.high:g} | {t.source} |"
        for t in TARGETS
    ]
    lines += ["", f"| oracle | {' | '.join(next(iter(oracles.values())))} |", "|---" * 5 + "|"]
    lines += [f"| {name} | {' | '.join(f'{v:.3g}' for v in errors.values())} |" for name, errors in oracles.items()]
    (out / "calibration.md").write_text("\n".join(lines) + "\n")
    _draw(out, settings, measured, seed, patients)
    _show(found, oracles, patients)
    print(f"tables and figures: {out}")
    return found


def _draw(out: Path, settings: Settings, measured: list[dict[str, object]], seed: int, patients: int) -> None:
    chosen = np.random.default_rng(seed).choice(np.arange(1, patients + 1), SHOWN, replace=False)
    cases = []
    for index in sorted(int(i) for i in chosen):
        rng = draw_streams(settings, index)
        truth = draw_truth(rng, settings, index, shared_atlas())
        cases.append((truth, scan_ct(rng, truth), scan_mri(rng, truth)))
    typical = next((t for t, *_ in cases if t.patient.kind == "territorial" and not t.patient.reperfused), cases[0][0])
    draw_calibration(measured, typical).savefig(out / "calibration.png", dpi=110)
    draw_cases(cases).savefig(out / "cases.png", dpi=110)


def _show(found: dict[str, float], oracles: dict[str, dict[str, float]], patients: int) -> None:
    console = Console()
    table = Table(title=f"{patients} simulated patients", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("figure", "found", "expected", "source"):
        table.add_column(heading, justify="right" if heading in ("found", "expected") else "left")
    for target in TARGETS:
        value = found[target.name]
        colour = "green" if target.low <= value <= target.high else "red"
        table.add_row(
            target.name, f"[{colour}]{value:.3g}[/] {target.unit}", f"{target.low:g} … {target.high:g}", target.source
        )
    console.print(table)
    table = Table(title="mean absolute error of oracles", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("oracle", *next(iter(oracles.values()))):
        table.add_column(heading, justify="left" if heading == "oracle" else "right")
    for name, errors in oracles.items():
        table.add_row(name, *(f"{value:.3g}" for value in errors.values()))
    console.print(table)
