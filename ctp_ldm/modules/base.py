"""What every stage shares: optimiser, start from a base, validation by images, prediction in physical units."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from ctp_ldm.metrics import PatientMetrics, balanced_mae, mean_over_patients
from ctp_ldm.modules.checkpoints import (
    TERMS,
    case_digest,
    identity,
    load_exactly,
    require_compatible,
    require_finite,
    require_same_networks,
)
from ctp_ldm.networks import ConfigError
from ctp_ldm.pipeline import read_base
from ctp_ldm.runs import KEY, read_checkpoint
from ctp_ldm.sample import Sample, Synthesis
from ctp_ldm.spec import Channel, DataSpec


class TranslationModule(L.LightningModule, ABC):
    """Base of all stages. A stage says what it optimises (`loss`) and how it makes an image (`synthesise`).

    Validation, test and prediction are the same for all: images in physical units, per patient. `val/balanced_mae`
    (see `metrics.balanced_mae`) is what checkpoints are chosen by.

    Args:
        spec: `DataSpec.to_plain()` of the data; the command links it from the DataModule.
        optimizer: parameters → optimiser; it gets what `parameter_groups` gives.
        lr_scheduler: optimiser → learning-rate schedule, stepped after every optimiser step.

    Attributes:
        base: the checkpoint that `init_from` read.
        lr_per_sample: where given, the learning rate is this times the samples of a step, whatever the optimiser says.
        last_terms: the weighted terms of the last training batch.
        trained_on: digests of the patients that this model or any of its bases was trained on.
    """

    stage: ClassVar[str]
    starts_from: ClassVar[Mapping[str, str]]
    """Stage of a base checkpoint → prefix of the weights that are taken from it."""
    checkpoint_needed: ClassVar[bool] = True
    """Whether there is anything to train and load."""

    def __init__(
        self,
        spec: dict[str, Any],
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        # Checkpoints are loaded with weights_only=True: whatever is not plain data stays out of them.
        # Nor is a folder of the machine that it was trained on part of a model.
        unwanted = [name for name, value in self.hparams.items() if name == "cache_latents" or not _is_plain(value)]
        self.remove_ignored_hparams(unwanted)
        self.spec = DataSpec.from_plain(spec)
        self.make_optimizer, self.make_lr_scheduler = optimizer, lr_scheduler
        self.base: Path | None = None
        self.lr_per_sample: float | None = None
        self.last_terms: dict[str, Tensor] = {}
        self.trained_on: set[str] = set()
        self.val_metrics = PatientMetrics(self.spec)

    @property
    def outputs(self) -> tuple[Channel, ...]:
        """The channels of what is predicted."""
        return self.spec.target

    @abstractmethod
    def loss(self, batch: Sample) -> dict[str, Tensor]:
        """The weighted terms of the objective by name; what is optimised is their sum."""

    @abstractmethod
    def synthesise(self, batch: Sample) -> Tensor:
        """(B, Ct, H, W) image in [−1, 1] up to overshoot, the same for the same weights, slice and configured seed."""

    def init_from(self, path: str | Path) -> None:
        """Start from the weights of another stage (its EMA weights where it has them).

        Args:
            path: of its checkpoint, or of the diffusers folder that `ctp-ldm convert` made of it.

        Raises:
            CheckpointError: missing, of a stage that this one does not start from, of other networks or schedule.
            SpecMismatch: the base was trained on other channels, scalings or another grid.
        """
        checkpoint = read_base(Path(path))
        require_compatible(checkpoint, tuple(self.starts_from), self.spec, str(path), type(self).__name__)
        self.require_fits(checkpoint, str(path))
        prefix = self.starts_from[checkpoint["ctp_ldm"]["stage"]]
        load_exactly(self, checkpoint["state_dict"], prefix, str(path))
        self.trained_on |= set(checkpoint[KEY].get("trained_on", ()))
        self.base = Path(path)

    def seen(self, cases: Iterable[str]) -> list[str]:
        """Those of some patients that this model, or a model that it started from, was trained on."""
        return [case for case in cases if case_digest(case) in self.trained_on]

    def on_train_start(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.trained_on |= {case_digest(case) for case in getattr(data, "parts", {}).get("train", ())}

    def require_own(self, path: str | Path) -> None:
        """Refuse a checkpoint that is not of this stage and these data.

        Raises:
            CheckpointError: missing, damaged, or of another stage.
            SpecMismatch: of other channels, scalings or another grid.
        """
        checkpoint = read_checkpoint(Path(path))
        require_compatible(checkpoint, (self.stage,), self.spec, str(path), type(self).__name__)
        self.require_fits(checkpoint, str(path))

    def require_data(self, data: L.LightningDataModule) -> None:
        """Refuse data that this model cannot be trained on with its settings, before it is.

        Raises:
            ConfigError
        """

    def describe(self) -> dict[str, Any]:
        """What a checkpoint says of the model beside stage and data: plain configs of its networks and schedule."""
        return {}

    def require_fits(self, checkpoint: Mapping[str, Any], name: str) -> None:
        """Refuse weights that would load and mean something else here.

        Args:
            checkpoint: of a welcome stage.
            name: of it, for messages.

        Raises:
            CheckpointError: of networks with other settings, or of another schedule.
        """
        require_same_networks(self.describe(), checkpoint[KEY], name)

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        self._seed_step()
        terms = self.loss(batch)
        total = torch.stack(list(terms.values())).sum()
        size = len(batch["case"])
        self.last_terms = {name: value.detach() for name, value in terms.items()}
        self.log_dict({f"train/{name}": value for name, value in self.last_terms.items()}, batch_size=size)
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=size)
        return total

    def _seed_step(self) -> None:
        """All that `loss` draws follows from seed, process and step: a resumed run draws what it would have drawn."""
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx
        key = (int(os.environ.get("PL_GLOBAL_SEED", 0)), self.global_rank, step)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def validation_step(self, batch: Sample, batch_idx: int) -> Synthesis:
        synthesis = self.predict_step(batch, batch_idx)
        self.val_metrics.update(synthesis["image"], self.spec.decode_target(batch["target"]), batch)
        return synthesis

    def test_step(self, batch: Sample, batch_idx: int) -> Synthesis:
        return self.predict_step(batch, batch_idx)

    def predict_step(self, batch: Sample, batch_idx: int) -> Synthesis:
        return {"image": self.to_physical(self.synthesise(batch), batch)}

    def to_physical(self, images: Tensor, batch: Sample) -> Tensor:
        """(B, Ct, H, W) in [−1, 1] up to overshoot → physical units, 0 outside the brain."""
        return self.spec.decode_target(images.clamp(-1, 1)) * batch["brain"]

    def on_validation_epoch_end(self) -> None:
        patients = self.val_metrics.compute()
        self.val_metrics.reset()
        self.log_dict({f"val/{name}": value for name, value in mean_over_patients(patients).items()})
        self.log("val/balanced_mae", balanced_mae(patients, self.spec), prog_bar=True)

    def parameter_groups(self) -> list[Any]:
        """What the optimiser gets: the parameters that are trained, or torch's dictionaries that group them."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def samples_per_step(self) -> int:
        """Slices that one optimiser step sees, over all processes and accumulated batches."""
        batch_size = self.trainer.datamodule.batch_size  # type: ignore[attr-defined]
        return int(batch_size * self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameter_groups())
        if self.lr_per_sample is not None:
            rate = self.lr_per_sample * self.samples_per_step()
            for group in optimizer.param_groups:
                group["lr"] = rate
            rank_zero_info(f"learning rate: {rate:.4g} = lr_per_sample {self.lr_per_sample:.4g} × samples of a step")
        if self.make_lr_scheduler is None:
            return optimizer
        scheduler = self.make_lr_scheduler(optimizer)
        if self.lr_per_sample is not None and optimizer.param_groups[0].get("initial_lr", rate) != rate:
            raise ConfigError(
                f"lr_per_sample with {type(scheduler).__name__}, which sets its own rates; expected a schedule "
                "that starts from the optimiser's, such as CosineAnnealingLR, or lr_per_sample: null"
            )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = {
            **identity(self.stage, self.spec, self.describe()),
            "trained_on": sorted(self.trained_on),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        path = self._trainer.ckpt_path if self._trainer is not None else None
        name = str(path or "the checkpoint")
        require_compatible(checkpoint, (self.stage,), self.spec, name, type(self).__name__)
        self.require_fits(checkpoint, name)
        require_finite(checkpoint["state_dict"], name)
        self.trained_on |= set(checkpoint[KEY].get("trained_on", ()))
        # A model that is loaded for prediction need not know the loss terms it was trained with.
        mine = self.state_dict().keys()
        for name in [n for n in checkpoint["state_dict"] if n.startswith(TERMS) and n not in mine]:
            del checkpoint["state_dict"][name]


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, str | int | float | bool)
