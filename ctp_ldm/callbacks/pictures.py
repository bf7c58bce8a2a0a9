"""Pictures of fixed slices: source, real, synthetic, error; plain, and with the lesion's outline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from ctp_ldm.callbacks.evaluation import Evaluation, Reader
from ctp_ldm.display.panels import Panel, Row, draw_rows, grey_panel, render, save_png
from ctp_ldm.display.sources import look_at, main_sources, shown_sources, title
from ctp_ldm.display.windows import Tone, tone
from ctp_ldm.sample import Sample, Synthesis
from ctp_ldm.spec import Channel, DataSpec

DPI = 110


@dataclass(frozen=True)
class Slice:
    """What is drawn of one patient.

    rank: lesion and brain in voxels; the slice with more replaces that with less.
    source: (K, H, W) channels to look at, in their units.
    real: (Ct, H, W) in the targets' units.
    image: (C, H, W) what the model made.
    brain, lesion: (H, W) bool.
    found: (H, W) bool, what a model that finds lesions has found; None of one that makes images.
    """

    rank: tuple[int, int]
    source: np.ndarray
    real: np.ndarray
    image: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray
    found: np.ndarray | None


class Pictures(L.Callback):
    """Draws the slice with the largest lesion (else the most brain) of the first patients, to PNG and TensorBoard.

    Windows are fixed (`display.windows`), the same for all steps, runs and patients. Where `Evaluation` has a
    segmenter, what it finds on the real and on the synthetic slice is outlined too.

    Files: `pictures/val-<step>.png` and `pictures/test.png` in the run folder.

    Args:
        patients: how many, in the loader's order.
    """

    def __init__(self, patients: int = 4) -> None:
        if patients < 1:
            raise ValueError(f"Pictures of {patients} patients; expected at least 1, or leave the callback out")
        self.patients = patients
        self._chosen: dict[str, Slice] = {}

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Sample, *_: Any
    ) -> None:
        self._collect(pl_module, outputs, batch)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Sample, *_: Any
    ) -> None:
        self._collect(pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._draw(trainer, pl_module, f"val-{trainer.global_step:07d}")
        self._chosen.clear()

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer, pl_module, "test")
        self._chosen.clear()

    def _collect(self, pl_module: L.LightningModule, synthesis: Synthesis, batch: Sample) -> None:
        spec: DataSpec = pl_module.spec  # type: ignore[assignment]
        brain = batch["brain"] > 0.5
        lesion = (batch["lesion"] > 0.5) & brain if "lesion" in batch else torch.zeros_like(brain)
        for i, case in enumerate(batch["case"]):
            if case not in self._chosen and len(self._chosen) == self.patients:
                continue
            rank = (int(lesion[i].sum()), int(brain[i].sum()))
            if case in self._chosen and self._chosen[case].rank >= rank:
                continue
            this = slice(i, i + 1)
            found = pl_module.found(synthesis)[i, 0] if hasattr(pl_module, "found") else None  # type: ignore[operator]
            self._chosen[case] = Slice(
                rank,
                source=_array(look_at(batch["source"][this], spec)[0]),
                real=_array(spec.decode_target(batch["target"][this])[0]),
                image=_array(synthesis["image"][i].float()),
                brain=_array(brain[i, 0]),
                lesion=_array(lesion[i, 0]),
                found=None if found is None else _array(found),
            )

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule, name: str) -> None:
        if not (self._chosen and trainer.is_global_zero):
            return
        reader = next((c.reader for c in trainer.callbacks if isinstance(c, Evaluation)), None)  # type: ignore[attr-defined]
        pixels = render(draw_rows(_rows(self._chosen, pl_module, reader)), DPI)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        save_png(Path(trainer.default_root_dir) / "pictures" / f"{name}.png", pixels)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name.split("-")[0], pixels, trainer.global_step, dataformats="HWC")


def _rows(cases: dict[str, Slice], pl_module: L.LightningModule, reader: Reader | None) -> list[Row]:
    spec: DataSpec = pl_module.spec  # type: ignore[assignment]
    sources = [
        (c, _tone(c, [(s.source[k], s.brain) for s in cases.values()])) for k, c in enumerate(shown_sources(spec))
    ]
    targets = [(c, _tone(c, [(s.real[k], s.brain) for s in cases.values()])) for k, c in enumerate(spec.target)]
    rows = []
    for case, one in cases.items():
        groups = [[_grey(one.source[k], one, *sources[k], "") for k in main_sources(len(sources))]]
        if one.found is None:
            read = [_read(reader, image, one.brain, pl_module.device) for image in (one.real, one.image)]
            groups += [_target(one, k, *targets[k], *read) for k in range(len(targets))]
        else:
            probability = np.where(one.brain, one.image[0], np.nan)
            groups.append([_grey(one.real[k], one, *targets[k], "real") for k in range(len(targets))])
            groups.append([Panel(probability, "probability of lesion", 0.0, 1.0, found=one.found)])
        rows.append(Row(case, groups, one.brain, one.lesion))
    return rows


def _target(
    one: Slice, k: int, channel: Channel, shades: Tone, found_real: np.ndarray | None, found: np.ndarray | None
) -> list[Panel]:
    difference = np.where(one.brain, one.image[k] - one.real[k], np.nan)
    return [
        _grey(one.real[k], one, channel, shades, "real", found=found_real),
        _grey(one.image[k], one, channel, shades, "synthetic", found=found),
        Panel(difference, "error", -shades.error, shades.error, channel.scaling.unit, is_error=True),
    ]


def _grey(image: np.ndarray, one: Slice, channel: Channel, shades: Tone, kind: str, **more: Any) -> Panel:
    return grey_panel(image, one.brain, shades, f"{title(channel.name)} {kind}".strip(), channel.scaling.unit, **more)


def _tone(channel: Channel, images: list[tuple[np.ndarray, np.ndarray]]) -> Tone:
    inside = np.concatenate([image[brain] for image, brain in images])
    return tone(channel.scaling.unit, channel.scaling, inside)


def _read(reader: Reader | None, image: np.ndarray, brain: np.ndarray, device: torch.device) -> np.ndarray | None:
    if reader is None:
        return None
    mask = torch.from_numpy(brain).to(device)[None, None]
    probability, _ = reader.read(torch.from_numpy(image).to(device)[None] * mask, mask.float())
    return _array(probability[0, 0] > reader.threshold)


def _array(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()
