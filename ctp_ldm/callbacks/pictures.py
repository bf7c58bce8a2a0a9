"""Pictures of fixed slices: source, real, synthetic, error, lesion contour."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure

from ctp_ldm.panels import Panel, Row, draw_rows, source_panel, window
from ctp_ldm.sample import Sample, Synthesis
from ctp_ldm.spec import DataSpec


class Pictures(L.Callback):
    """Draws the slice with the largest lesion (else the most brain) of the first patients, to PNG and TensorBoard.

    Files: `pictures/val-<step>.png` and `pictures/test.png` in the run folder, the drawn arrays beside the latter as
    `test.npz`.

    Args:
        patients: how many, in the loader's order.
    """

    def __init__(self, patients: int = 4) -> None:
        if patients < 1:
            raise ValueError(f"Pictures of {patients} patients; expected at least 1, or leave the callback out")
        self.patients = patients
        self._chosen: dict[str, tuple[tuple[float, float], dict[str, np.ndarray]]] = {}

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Sample, *_: Any
    ) -> None:
        self._collect(pl_module, outputs, batch)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Sample, *_: Any
    ) -> None:
        self._collect(pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking:
            self._draw(trainer, pl_module, f"val-{trainer.global_step:07d}")
        self._chosen.clear()

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._draw_test(trainer, pl_module)
        self._chosen.clear()

    def _draw_test(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        panels = {case: arrays for case, (_, arrays) in self._chosen.items()}
        self._draw(trainer, pl_module, "test")
        folder = Path(trainer.default_root_dir) / "pictures"
        drawn: dict[str, Any] = {f"{case}/{name}": a for case, arrays in panels.items() for name, a in arrays.items()}
        np.savez_compressed(folder / "test.npz", **drawn)

    def _collect(self, pl_module: L.LightningModule, synthesis: Synthesis, batch: Sample) -> None:
        real = pl_module.spec.decode_target(batch["target"])  # type: ignore[operator, union-attr]
        for i, case in enumerate(batch["case"]):
            if case not in self._chosen and len(self._chosen) == self.patients:
                continue
            lesion = batch["lesion"][i, 0] if "lesion" in batch else batch["brain"][i, 0] * 0
            rank = (float(lesion.sum()), float(batch["brain"][i].sum()))
            if case in self._chosen and self._chosen[case][0] >= rank:
                continue
            # The mean over the source's channels stands for all of them; for CTP it is dominated by enhancement.
            arrays = {
                "source": batch["source"][i].mean(0),
                "real": real[i],
                "synthetic": synthesis["image"][i].float(),
                "lesion": lesion,
                "brain": batch["brain"][i, 0],
            }
            self._chosen[case] = (rank, {name: array.cpu().numpy() for name, array in arrays.items()})

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule, name: str) -> None:
        if not self._chosen:
            return
        figure = draw_cases({case: arrays for case, (_, arrays) in self._chosen.items()}, pl_module.spec)  # type: ignore[arg-type]
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = Path(trainer.default_root_dir) / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{name}.png", dpi=110)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure(name.split("-")[0], figure, trainer.global_step)


def draw_cases(cases: Mapping[str, Mapping[str, np.ndarray]], spec: DataSpec) -> Figure:
    """A row for each case: source, then real, synthetic and error of each target.

    Args:
        cases: name → source (H, W), real and synthetic (Ct, H, W) in physical units, lesion and brain (H, W).
        spec: names and units of the targets.
    """
    return draw_rows([Row(name, _panels(arrays, spec), arrays["lesion"]) for name, arrays in cases.items()])


def _panels(arrays: Mapping[str, np.ndarray], spec: DataSpec) -> list[Panel]:
    brain = arrays["brain"] > 0.5
    panels = [source_panel(arrays)]
    finds_lesions = len(arrays["synthetic"]) != len(spec.target)
    for i, channel in enumerate(spec.target):
        real, name = arrays["real"][i], channel.name
        high = window(real, brain)
        if finds_lesions:
            panels.append(Panel(real, f"{name} real", "gray", 0.0, high))
            continue
        synthetic = arrays["synthetic"][i]
        error = np.where(brain, synthetic - real, np.nan)
        panels += [
            Panel(real, f"{name} real", "gray", 0.0, high),
            Panel(synthetic, f"{name} synthetic", "gray", 0.0, high),
            Panel(error, f"error ±{high / 2:.3g} {channel.scaling.unit}", "RdBu_r", -high / 2, high / 2),
        ]
    if finds_lesions:
        panels.append(Panel(arrays["synthetic"][0], "probability of lesion", "gray", 0.0, 1.0))
    return panels
