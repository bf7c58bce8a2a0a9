"""A test's results: a CSV per patient, a summary with intervals, a table on the screen."""

import json
import math
from pathlib import Path

import lightning as L
import pandas as pd
from rich.console import Console
from rich.table import Table

from ctp_ldm.metrics import Interval, bootstrap_mean


class PatientTables(L.Callback):
    """After `test`: `test/patients.csv`, `test/summary.json` in the run folder, and the summary on the screen."""

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        patients = pl_module.test_metrics.compute()  # type: ignore[operator, union-attr]
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._write(trainer, patients)

    def _write(self, trainer: L.Trainer, patients: dict[str, dict[str, float]]) -> None:
        folder = Path(trainer.default_root_dir) / "test"
        folder.mkdir(parents=True, exist_ok=True)
        data = trainer.datamodule  # type: ignore[attr-defined]
        table = pd.DataFrame.from_dict(patients, orient="index").rename_axis("case")
        voxel_ml = [data.geometry(case).voxel_ml for case in table.index]
        table.insert(0, "lesion_ml", table.pop("lesion_voxels") * voxel_ml)
        table.to_csv(folder / "patients.csv", float_format="%.6g")
        summary = {name: bootstrap_mean(table[name].tolist()) for name in table.columns}
        content = {
            "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
            "patients": len(table),
            "interval": "95 % percentile bootstrap over patients",
            "metrics": {name: _without_nan(value) for name, value in summary.items()},
        }
        (folder / "summary.json").write_text(json.dumps(content, indent=1, allow_nan=False))
        _show(summary, len(table), folder)


def _without_nan(interval: Interval) -> dict[str, float | None]:
    return {k: None if math.isnan(v) else v for k, v in vars(interval).items()}


def _show(summary: dict[str, Interval], patients: int, folder: Path) -> None:
    table = Table(title=f"{patients} test patients, mean and 95 % bootstrap interval")
    for heading in ("metric", "mean", "interval", "patients"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, value in summary.items():
        interval = "–" if math.isnan(value.low) else f"{value.low:.4g} … {value.high:.4g}"
        table.add_row(name, f"{value.mean:.4g}", interval, str(value.patients))
    console = Console()
    console.print(table)
    console.print(f"per patient: {folder / 'patients.csv'}", soft_wrap=True)
