"""What a test says of each patient, and of all of them: whole volumes, a table, a summary."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import numpy as np
import pandas as pd
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ctp_ldm.callbacks.charts import draw_lesions
from ctp_ldm.callbacks.volumes import VolumeBuilder
from ctp_ldm.metrics import Interval, bootstrap_mean, evaluate_patient, frechet_distance, mean_over_patients
from ctp_ldm.paths import sha256, shown_path
from ctp_ldm.processes import from_all_processes
from ctp_ldm.runs import write_text
from ctp_ldm.sample import Sample, Synthesis

VALIDATED = (
    *("dice", "lesion_dice", "dice_real", "detected", "detected_10ml"),
    *("hallucinated_ml", "absolute_volume_error_ml"),
)
Rows = dict[str, dict[str, float]]


class EvaluationError(ValueError):
    """A test that would be worth nothing: the segmenter knows the patients already."""


class Reader(Protocol):
    """A segmenter that reads images; `modules.LesionReader`."""

    path: Path

    def read(self, images: Tensor, brain: Tensor) -> tuple[Tensor, Tensor | None]: ...

    def seen(self, cases: Sequence[str]) -> list[str]: ...


class Evaluation(L.Callback):
    """After `test`: `test/patients.csv`, `test/summary.json`, `test/volumes/<case>.npz` in the run folder.

    Every patient is evaluated as one volume (`evaluate_patient`). With a segmenter, what it finds on the synthetic
    image is compared with the reference, and what it finds on the real one is given beside it as its own ceiling. With
    one, lesion metrics are computed in validation too, logged as `val/…`, and drawn for TensorBoard.
    """

    def __init__(self) -> None:
        self.reader: Reader | None = None
        self._clear()

    def _clear(self) -> None:
        self._builder: VolumeBuilder | None = None
        self._rows: Rows = {}
        self._features: dict[str, list[list[list[float]]]] = {}

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        cases = trainer.datamodule.parts["test"] if hasattr(trainer.datamodule, "parts") else []  # type: ignore[attr-defined]
        known = self.reader.seen(cases) if self.reader is not None else []
        if known:
            assert self.reader is not None
            raise EvaluationError(
                f"the segmenter {self.reader.path} was trained on test patients, such as {known[:3]}; what it finds on "
                "them says nothing: train it with the same data.split"
            )
        seen = pl_module.seen(cases)  # type: ignore[operator]
        if seen:
            rank_zero_warn(f"the model or its base was trained on test patients, such as {seen[:3]}: this is no test")

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Sample, *_: Any
    ) -> None:
        if self.reader is not None and not trainer.sanity_checking:
            self._take_in(trainer, pl_module, outputs, batch, folder=None)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Sample, *_: Any
    ) -> None:
        dry = trainer.fast_dev_run  # type: ignore[attr-defined]
        folder = None if dry else Path(trainer.default_root_dir) / "test" / "volumes"
        self._take_in(trainer, pl_module, outputs, batch, folder)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.reader is None or trainer.sanity_checking:
            return
        rows = _gathered(self._rows)
        means = mean_over_patients(rows)
        pl_module.log_dict({f"val/{name}": means[name] for name in VALIDATED if name in means})
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("lesions", draw_lesions(rows), trainer.global_step)
        self._clear()

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rows, features = _gathered(self._rows), _gathered(self._features)
        incomplete = self._builder.unfinished if self._builder else []
        self._clear()
        if incomplete and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            rank_zero_warn(f"not evaluated, because slices are missing: {', '.join(incomplete)}")
        if not rows:
            return
        pl_module.log_dict({f"test/{name}": value for name, value in mean_over_patients(rows).items()})
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._write(trainer, pl_module, rows, features)

    def _take_in(
        self, trainer: L.Trainer, pl_module: L.LightningModule, synthesis: Synthesis, batch: Sample, folder: Path | None
    ) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        finds_lesions = hasattr(pl_module, "found")
        if self._builder is None:
            self._builder = VolumeBuilder(data, targets_shown=not finds_lesions)
        found, found_real = self._lesions(pl_module, synthesis, batch)
        for case in self._builder.add(synthesis, batch, found, found_real):
            volumes = self._builder.take(case)
            spans = [] if finds_lesions else [channel.scaling.span for channel in data.spec.target]
            row = evaluate_patient(volumes, spans)
            lesion = 0 if volumes.lesion is None else int(volumes.lesion.sum())
            self._rows[case] = {"lesion_ml": lesion * volumes.voxel_ml, **row}
            if folder is not None:
                volumes.save(folder / f"{case}.npz")

    def _lesions(
        self, pl_module: L.LightningModule, synthesis: Synthesis, batch: Sample
    ) -> tuple[Tensor | None, Tensor | None]:
        """Lesion on the synthetic and on the real image, (B, 1, H, W) bool each, where there is somebody to find it."""
        if hasattr(pl_module, "found"):
            return pl_module.found(synthesis), None  # type: ignore[operator]
        if self.reader is None:
            return None, None
        real = pl_module.spec.decode_target(batch["target"]) * batch["brain"]  # type: ignore[operator, union-attr]
        found, seen = self.reader.read(synthesis["image"], batch["brain"])
        found_real, seen_real = self.reader.read(real, batch["brain"])
        if seen is not None and seen_real is not None:
            for case, ours, theirs in zip(batch["case"], seen.tolist(), seen_real.tolist(), strict=True):
                self._features.setdefault(case, []).append([ours, theirs])
        return found, found_real

    def _write(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        rows: Rows,
        features: dict[str, list[list[list[float]]]],
    ) -> None:
        folder = Path(trainer.default_root_dir) / "test"
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("case")
        # Names stand as they are: this file is read by programs, and a spreadsheet's guard would be another name. The
        # report's cases.csv is the one to open in a spreadsheet.
        write_text(folder / "patients.csv", table.to_csv(float_format="%.6g"))
        summary = {name: bootstrap_mean(table[name].tolist()) for name in table.columns}
        checkpoint = Path(str(trainer.ckpt_path)) if trainer.ckpt_path else None
        content = {
            "checkpoint": shown_path(checkpoint) if checkpoint else None,
            "checkpoint_sha256": sha256(checkpoint) if checkpoint and checkpoint.is_file() else None,
            "stage": pl_module.stage,
            "spec": pl_module.spec.to_plain(),  # type: ignore[operator, union-attr]
            "seed": int(os.environ.get("PL_GLOBAL_SEED", 0)),
            "segmenter": self._segmenter(),
            "samples": getattr(pl_module, "samples", 1),
            "patients": len(table),
            "interval": "95 % percentile bootstrap over patients",
            "metrics": {name: _without_nan(value) for name, value in summary.items()},
            "over all slices": self._distances(features),
        }
        write_text(folder / "summary.json", json.dumps(content, indent=1, allow_nan=False))
        _show(summary, len(table), folder)

    def _segmenter(self) -> dict[str, str] | None:
        if self.reader is None:
            return None
        return {"path": shown_path(self.reader.path), "sha256": sha256(self.reader.path)}

    def _distances(self, features: dict[str, list[list[list[float]]]]) -> dict[str, float | str]:
        """Fréchet distance of synthetic and real slices as the segmenter sees them, or why there is none."""
        if not features:
            why = "no segmenter" if self.reader is None else "the segmenter has no feature_layer"
            return {"frechet_distance": f"skipped: {why}"}
        pairs = np.array([pair for case in sorted(features) for pair in features[case]])
        distance = frechet_distance(pairs[:, 0], pairs[:, 1])
        if math.isnan(distance):
            return {"frechet_distance": f"skipped: {len(pairs)} slices for {pairs.shape[2]} features"}
        return {"frechet_distance": distance}


def _gathered(rows: dict[str, Any]) -> dict[str, Any]:
    """Those of all processes, in order of the patients' names."""
    texts = from_all_processes(json.dumps(rows))
    together = {case: row for text in texts for case, row in json.loads(text).items()}
    return {case: together[case] for case in sorted(together)}


def _without_nan(interval: Interval) -> dict[str, float | None]:
    return {k: None if math.isnan(v) else v for k, v in vars(interval).items()}


def _show(summary: dict[str, Interval], patients: int, folder: Path) -> None:
    table = Table(title=f"{patients} test patients, mean and 95 % bootstrap interval")
    for heading in ("metric", "mean", "interval", "patients"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, value in summary.items():
        if value.patients == 0:
            continue
        interval = "–" if math.isnan(value.low) else f"{value.low:.4g} … {value.high:.4g}"
        table.add_row(name, f"{value.mean:.4g}", interval, str(value.patients))
    console = Console()
    console.print(table)
    console.print(f"per patient: {folder / 'patients.csv'}", soft_wrap=True)
