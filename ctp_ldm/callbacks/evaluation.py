"""What a test says of each patient, and of all of them: whole volumes, a table, a summary."""

import json
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import lightning as L
import numpy as np
import pandas as pd
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ctp_ldm.callbacks.charts import draw_curve, draw_lesions
from ctp_ldm.callbacks.curves import CurveCounter, CurveRow, curve_of, curve_table
from ctp_ldm.callbacks.operating import VALIDATED, file_record, keep_cutoff, read_cutoff, require_cutoff
from ctp_ldm.callbacks.result_folder import ResultFolder
from ctp_ldm.callbacks.volumes import VolumeBuilder
from ctp_ldm.metrics import Interval, bootstrap_mean, evaluate_patient, frechet_distance, mean_over_patients
from ctp_ldm.metrics.curves import AT_ML
from ctp_ldm.paths import sha256, shown_path
from ctp_ldm.processes import from_all_processes
from ctp_ldm.runs import write_text
from ctp_ldm.sample import Sample, Synthesis

LOGGED = (
    *("lesion_dice", "lesion_dice_real", "sensitivity", "precision", "detected", "detected_10ml"),
    *("false_ml", "any_false_free", "absolute_volume_error_ml", "dice"),
)
Rows = dict[str, dict[str, float]]


class EvaluationError(ValueError):
    """An evaluation that would be worth nothing: the segmenter knows the patients already."""


class Reader(Protocol):
    """A segmenter that reads images; `modules.LesionReader`."""

    path: Path
    threshold: float

    def read(self, images: Tensor, brain: Tensor) -> tuple[Tensor, Tensor | None]: ...

    def seen(self, cases: Sequence[str]) -> list[str]: ...


class Evaluation(L.Callback):
    """After `test`: `test/` with `patients.csv`, `curves.csv`, `summary.json`, `volumes/<case>.npz` in the run folder.

    Every patient is evaluated as one volume (`evaluate_patient`). With a segmenter, what it finds on the synthetic
    image is compared with the reference, and what it finds on the real one is given beside it as its own ceiling. With
    one, lesion metrics are computed in validation too, logged as `val/…`, and drawn for TensorBoard. Validation logs
    `val/curve_area`, the area under the operating curve of whoever finds lesions, a segmenter or the model. `validate`
    keeps `validation/curves.csv` and `validation/cutoff.json`, what `keep_cutoff` chose.

    Attributes:
        reader: of synthetic images.
        cutoff: in test, and where a segmenter predicts, above which a score is lesion: a number, what `validate` has
            kept, or None for the segmenter's own.
        cutoff_false_ml: mean false lesion volume that `validate` chooses a cut-off for.
    """

    def __init__(self) -> None:
        self.reader: Reader | None = None
        self.cutoff: float | Literal["validated"] | None = None
        self.cutoff_false_ml = AT_ML
        self._clear()

    def _clear(self) -> None:
        self._builder: VolumeBuilder | None = None
        self._rows: Rows = {}
        self._features: dict[str, list[list[list[float]]]] = {}
        self._counter: CurveCounter | None = None
        self._curves: dict[str, CurveRow] = {}
        self._results: ResultFolder | None = None

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._require_unseen(trainer, pl_module, "test", "this is no test")
        self._set_cutoff(trainer, pl_module)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._results = ResultFolder(trainer)
            self._results.begin()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._require_unseen(
            trainer, pl_module, "val", "neither its figures nor a cut-off chosen on them hold for others"
        )

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if hasattr(pl_module, "found"):  # images have no cut-off
            self._set_cutoff(trainer, pl_module)

    def _require_unseen(self, trainer: L.Trainer, pl_module: L.LightningModule, part: str, so: str) -> None:
        """That neither reader nor model was trained on the patients of a part; of a model it is told only."""
        cases = getattr(trainer.datamodule, "parts", {}).get(part, ())  # type: ignore[attr-defined]
        name = {"val": "validation"}.get(part, part)
        if self.reader is not None and (known := self.reader.seen(cases)):
            raise EvaluationError(
                f"the segmenter {self.reader.path} was trained on {name} patients, such as {known[:3]}; what it finds "
                "on them says nothing: train it with the same data.split"
            )
        if seen := pl_module.seen(cases):  # type: ignore[operator]
            rank_zero_warn(f"the model or its base was trained on {name} patients, such as {seen[:3]}: {so}")

    def _set_cutoff(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Where it is set, for all that asks the finder what it finds: metrics, curves and pictures."""
        if self.cutoff is None:
            return
        finder = self._finder(pl_module)
        if finder is None:
            raise EvaluationError(f"cutoff is {self.cutoff}, and nobody finds lesions; expected a segmenter beside it")
        if self.cutoff == VALIDATED:
            run = Path(trainer.default_root_dir)
            finder.threshold = read_cutoff(run, self._read_by(pl_module), trainer.ckpt_path)
        else:
            finder.threshold = require_cutoff(self.cutoff)

    def _finder(self, pl_module: L.LightningModule) -> Any:
        """Who has the threshold that lesions are found with: the model, the reader, or nobody."""
        return pl_module if hasattr(pl_module, "found") else self.reader

    def _read_by(self, pl_module: L.LightningModule) -> Path | None:
        """The checkpoint of who finds lesions on images; None where the model finds them itself."""
        return None if self.reader is None or hasattr(pl_module, "found") else self.reader.path

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Sample, *_: Any
    ) -> None:
        if self._validates(trainer, pl_module):
            self._take_in(trainer, pl_module, outputs, batch, folder=None)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Sample, *_: Any
    ) -> None:
        folder = None if self._results is None else self._results.partial / "volumes"
        self._take_in(trainer, pl_module, outputs, batch, folder)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._validates(trainer, pl_module):
            return
        rows, curves = _gathered(self._rows), _gathered(self._curves)
        incomplete = self._builder.unfinished if self._builder else []
        self._clear()
        figures, curve = {}, curve_of(curves) if curves else None
        if curve is not None and not math.isnan(area := curve.mean_area()):
            pl_module.log("val/curve_area", area)
            figures["operating curve"] = partial(draw_curve, curve)
        if not hasattr(pl_module, "found"):  # such a model logs its own
            means = mean_over_patients(rows)
            pl_module.log_dict({f"val/{name}": means[name] for name in LOGGED if name in means})
            figures["lesions"] = partial(draw_lesions, rows)
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, TensorBoardLogger):
                for name, draw in figures.items():
                    logger.experiment.add_figure(name, draw(), trainer.global_step)
        if trainer.state.fn == TrainerFn.VALIDATING and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if incomplete:
                rank_zero_warn(f"no part of the curve, because slices are missing: {', '.join(incomplete)}")
            if curve is not None and trainer.is_global_zero:
                run, table = Path(trainer.default_root_dir), curve_table(curves)
                write_text(run / "validation" / "curves.csv", table.to_csv(index=False, float_format="%.6g"))
                keep_cutoff(run, curve, self.cutoff_false_ml, self._read_by(pl_module), trainer.ckpt_path)

    def _validates(self, trainer: L.Trainer, pl_module: L.LightningModule) -> bool:
        return self._finder(pl_module) is not None and not trainer.sanity_checking

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rows, features, curves = _gathered(self._rows), _gathered(self._features), _gathered(self._curves)
        incomplete, results = self._builder.unfinished if self._builder else [], self._results
        self._clear()
        if incomplete and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            rank_zero_warn(f"not evaluated, because slices are missing: {', '.join(incomplete)}")
        if not rows:
            return
        pl_module.log_dict({f"test/{name}": value for name, value in mean_over_patients(rows).items()})
        if results is not None:
            if trainer.is_global_zero:
                self._write(trainer, pl_module, rows, features, curves, results)
            results.finish()

    def _take_in(
        self, trainer: L.Trainer, pl_module: L.LightningModule, synthesis: Synthesis, batch: Sample, folder: Path | None
    ) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        finds_lesions = hasattr(pl_module, "found")
        if self._builder is None:
            self._builder = VolumeBuilder(data, targets_shown=not finds_lesions)
        found, found_real, scores = self._lesions(pl_module, synthesis, batch)
        if scores is not None:
            self._counter = self._counter or CurveCounter(self._finder(pl_module).threshold)
            self._counter.add(scores, batch)
        for case in self._builder.add(synthesis, batch, found, found_real):
            volumes = self._builder.take(case)
            if trainer.testing or not finds_lesions:  # in validation such a model measures itself
                spans = [] if finds_lesions else [channel.scaling.span for channel in data.spec.target]
                row = evaluate_patient(volumes, spans)
                lesion = 0 if volumes.lesion is None else int(volumes.lesion.sum())
                self._rows[case] = {"lesion_ml": lesion * volumes.voxel_ml, **row}
            curve = self._counter.take(case, volumes.voxel_ml) if self._counter else None
            if curve is not None:
                self._curves[case] = curve
            if folder is not None:
                volumes.save(folder / f"{case}.npz")

    def _lesions(
        self, pl_module: L.LightningModule, synthesis: Synthesis, batch: Sample
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """(B, 1, H, W) each, where there is somebody to find lesions: on the synthetic and on the real image, bool; and
        the scores of the synthetic one."""
        if hasattr(pl_module, "found"):
            return pl_module.found(synthesis), None, pl_module.scores(synthesis, batch)  # type: ignore[operator]
        if self.reader is None:
            return None, None, None
        real = pl_module.spec.decode_target(batch["target"]) * batch["brain"]  # type: ignore[operator, union-attr]
        scores, seen = self.reader.read(synthesis["image"], batch["brain"])
        scores_real, seen_real = self.reader.read(real, batch["brain"])
        if seen is not None and seen_real is not None:
            for case, ours, theirs in zip(batch["case"], seen.tolist(), seen_real.tolist(), strict=True):
                self._features.setdefault(case, []).append([ours, theirs])
        return scores > self.reader.threshold, scores_real > self.reader.threshold, scores

    def _write(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        rows: Rows,
        features: dict[str, list[list[list[float]]]],
        curves: dict[str, CurveRow],
        results: ResultFolder,
    ) -> None:
        folder = results.partial
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("case")
        # Names stand as they are: this file is read by programs. None begins a formula (`data.find_cases` refuses it).
        write_text(folder / "patients.csv", table.to_csv(float_format="%.6g"))
        if curves:
            write_text(folder / "curves.csv", curve_table(curves).to_csv(index=False, float_format="%.6g"))
        summary = {name: bootstrap_mean(table[name].tolist()) for name in table.columns}
        checkpoint = Path(str(trainer.ckpt_path)) if trainer.ckpt_path else None
        content = {
            "checkpoint": shown_path(checkpoint) if checkpoint else None,
            "checkpoint_sha256": sha256(checkpoint) if checkpoint and checkpoint.is_file() else None,
            "stage": pl_module.stage,
            "spec": pl_module.spec.to_plain(),  # type: ignore[operator, union-attr]
            "seed": int(os.environ.get("PL_GLOBAL_SEED", 0)),
            "segmenter": file_record(self.reader.path) if self.reader is not None else None,
            "cutoff": getattr(self._finder(pl_module), "threshold", None),
            "cutoff chosen": "by the segmenter's config" if self.cutoff is None else str(self.cutoff),
            "samples": getattr(pl_module, "samples", 1),
            "patients": len(table),
            "interval": "95 % percentile bootstrap over patients",
            "metrics": {name: _without_nan(value) for name, value in summary.items()},
            "over all slices": self._distances(features),
        }
        write_text(folder / "summary.json", json.dumps(content, indent=1, allow_nan=False))
        _show(summary, len(table), results.final)

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
