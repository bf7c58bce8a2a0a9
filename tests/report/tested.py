"""Tested runs of a few small patients, as `ctp-ldm test` leaves them: `from report.tested import …`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctp_ldm.metrics import PatientVolumes, evaluate_patient
from ctp_ldm.scaling import Linear
from ctp_ldm.spec import Channel, DataSpec

SHAPE = (7, 24, 28)
SPACING = (5.0, 6.0, 6.0)
SPEC = DataSpec(
    source=(Channel("ctp", Linear("HU", 0.0, 80.0)),),
    target=(Channel("dwi", Linear("relative DWI", 0.0, 4.0)), Channel("adc", Linear("10⁻⁶ mm²/s", 0.0, 3000.0))),
    spacing=6.0,
    size=SHAPE[1:],
)
SEGMENTER = {"path": "runs/segmenter/best.ckpt", "sha256": "3f7a9c0d" * 8}
# Side of the lesion in voxels; the second patient has none. Names are what a user's folders may be called.
PATIENTS = {"sub-1": 6, "sub-2": 0, "Ünal & <b>Söhne</b>": 3, "SUB-1": 4}


def patient(case: str, lesion_side: int, seed: int = 0, error: float = 0.2, samples: int = 1) -> PatientVolumes:
    """A brain with a square lesion on the patient's left, brighter in DWI and darker in ADC."""
    rng = np.random.default_rng([seed, *case.encode()])
    z, h, w = np.indices(SHAPE)
    brain = ((h - 11.5) / 10) ** 2 + ((w - 13.5) / 12) ** 2 < 1
    brain &= (z > 0) & (z < 6)
    lesion = np.zeros(SHAPE, bool)
    lesion[2:5, 6 : 6 + lesion_side, 12 : 12 + lesion_side] = lesion_side > 0
    lesion &= brain
    normal = np.stack([np.ones(SHAPE), np.full(SHAPE, 800.0)], axis=1)
    real = normal + lesion[:, None] * np.array([1.2, -250.0])[None, :, None, None]
    # Every slice has a brightness of its own: whoever shows another one is seen.
    real = real * (0.7 + 0.1 * np.arange(SHAPE[0]))[:, None, None, None] * brain[:, None]
    noise = rng.normal(size=real.shape) * np.array([error, 400 * error])[None, :, None, None]
    found = np.roll(lesion, 1, axis=1) & brain
    if lesion_side == 0:
        found[3, 9:11, 10:12] = True
    deviation = np.full(real.shape, error, np.float32) if samples > 1 else None
    return PatientVolumes(
        case=case,
        spacing=SPACING,
        targets=("dwi", "adc"),
        units=tuple(channel.scaling.unit for channel in SPEC.target),
        synthetic=((real + noise) * brain[:, None]).astype(np.float32),
        real=real.astype(np.float32),
        brain=brain,
        lesion=lesion,
        found=found,
        found_real=lesion,
        deviation=deviation,
        source=(normal[:, :1] * 35 * brain[:, None]).astype(np.float32),
        sources=("before contrast",),
        penumbra=np.roll(lesion, 2, axis=2),
    )


def make_run(
    folder: Path,
    patients: Mapping[str, int] = PATIENTS,
    without_volumes: Sequence[str] = (),
    segmenter: bool = True,
    images: bool = True,
    summary: Mapping[str, Any] | None = None,
    **how: Any,
) -> Path:
    """Write a run's test folder.

    Args:
        folder: of the run.
        patients: name → side of the lesion.
        without_volumes: patients whose volumes are not kept.
        segmenter: whether lesions were looked for.
        images: whether the run makes any; a rival finds lesions in the source.
        summary: other values of summary.json.
        how: seed, error and samples of `patient`.
    """
    rows = {}
    for case, side in patients.items():
        volumes = patient(case, side, **how)
        if not segmenter:
            volumes = replace(volumes, found=None, found_real=None)
        if not images:
            nothing = volumes.real[:, :0]
            volumes = replace(
                volumes, targets=(), units=(), real=nothing, synthetic=nothing, deviation=None, found_real=None
            )
        rows[case] = evaluate_patient(volumes, [c.scaling.span for c in SPEC.target if c.name in volumes.targets])
        rows[case]["lesion_ml"] = float((volumes.lesion & volumes.brain).sum()) * volumes.voxel_ml
        if case not in without_volumes:
            volumes.save(folder / "test" / "volumes" / f"{case}.npz")
    told = {
        "checkpoint": f"{folder.name}/checkpoints/best.ckpt",
        "stage": "posttrain",
        "spec": SPEC.to_plain(),
        "seed": how.get("seed", 0),
        "segmenter": SEGMENTER if segmenter and images else None,
        "samples": how.get("samples", 1),
    }
    write_table(folder, pd.DataFrame.from_dict(rows, orient="index"))
    (folder / "test" / "summary.json").write_text(json.dumps({**told, **(summary or {})}))
    return folder


def write_table(folder: Path, table: pd.DataFrame) -> None:
    """patients.csv alone."""
    (folder / "test").mkdir(parents=True, exist_ok=True)
    table.rename_axis("case").to_csv(folder / "test" / "patients.csv", float_format="%.6g")
