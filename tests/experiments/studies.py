"""Results of parts with known numbers."""

import json
import zlib
from pathlib import Path

import numpy as np

from ctp_ldm.experiments import Protocol

PATIENTS = [f"sub-{i:02d}" for i in range(40)]
GOOD = {"lesion_dice": 0.5, "false_ml": 2.0, "lesion_mae_adc": 100.0, "brain_mae_adc": 150.0, "brain_mae_dwi": 0.1}
SPREAD = {"lesion_dice": 0.1, "false_ml": 0.5, "lesion_mae_adc": 20.0, "brain_mae_adc": 10.0, "brain_mae_dwi": 0.01}


def result(folder: Path, part: str, seed: int = 0, noise: float = 0.05, **shifts: float) -> Path:
    """The JSON of a part whose metrics are those of all patients, shifted, with some noise of its own."""
    common, own = np.random.default_rng(0), np.random.default_rng(zlib.crc32(f"{part} {seed}".encode()))
    patients: dict[str, dict[str, float | None]] = {case: {} for case in PATIENTS}
    for column, mean in GOOD.items():
        every, mine = common.standard_normal(len(PATIENTS)), own.standard_normal(len(PATIENTS))
        values = mean + SPREAD[column] * (every + noise * mine) + shifts.get(column, 0.0)
        for i, case in enumerate(PATIENTS):
            lesion_free = column == "lesion_mae_adc" and i % 5 == 0
            patients[case][column] = None if lesion_free else float(values[i])
    path = folder / "parts" / f"{part}-seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"part": part, "seed": seed, "summary": {"spec": None}, "patients": patients}))
    return path


def curve(folder: Path, part: str, seed: int = 0, false_ml: float = 20.0) -> None:
    """The curve of a part that finds the share s of each lesion with s · `false_ml` of false lesion."""
    rows = [
        f"{case},{cutoff},{(1 - cutoff) * (20 + false_ml)},{(1 - cutoff) * 20},20"
        for case in PATIENTS
        for cutoff in (0.25, 0.5, 0.75)
    ]
    path = folder / "curves" / f"{part}-seed{seed}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["case,cutoff,found_ml,shared_ml,reference_ml", *rows]))


def whole(folder: Path, protocol: Protocol, **ours: dict[str, float]) -> None:
    """Controls of all families, and ours with the given shifts by family."""
    for family in protocol.families:
        shifts = ours.get(family.replace("-", "_"), {})
        for seed in range(3):
            result(folder, f"{family}-control", seed)
            result(folder, f"{family}-ours", seed, **shifts)
