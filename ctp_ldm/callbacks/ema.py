"""Exponential moving average of the trained weights."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ctp_ldm.runs import CheckpointError

KEY = "ema"


class EMA(L.Callback):
    """Validation, checkpoints and the next stage use averaged weights.

    After n steps the decay is min(decay, (1 + n) / (10 + n)). The warm-up is that of the published latent diffusion
    code: a short run is not held at its first weights. Only weights that are trained are averaged. A checkpoint's
    `state_dict` has the average in their place, its `ema` the weights that training goes on from.

    Args:
        decay: of the average, below 1; None to average nothing. A run that averaged before then goes on without.

    Raises:
        ValueError: decay outside [0, 1).
    """

    def __init__(self, decay: float | None = 0.9999) -> None:
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"EMA decay is {decay}; expected 0 ≤ decay < 1")
        self.decay = decay
        self.updates = 0
        self._step = 0
        self._trained: dict[str, nn.Parameter] = {}
        self._average: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.decay is None:
            return
        self._trained = {name: value for name, value in pl_module.named_parameters() if value.requires_grad}
        resumed = self._average
        self._average = {
            name: resumed[name].to(value.device) if name in resumed else value.detach().clone()
            for name, value in self._trained.items()
        }

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if not self._average or trainer.global_step == self._step:  # no optimiser step, gradients are being gathered
            return
        self._step = trainer.global_step
        decay = min(self.decay or 0.0, (1 + self.updates) / (10 + self.updates)) if self.updates else 0.0
        average, current = list(self._average.values()), [value.detach() for value in self._trained.values()]
        get_ema_multi_avg_fn(decay)(average, current, self.updates)
        self.updates += 1

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._swap()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._swap()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the module. Not before: the last checkpoint is written when training ends."""
        self._swap()
        self._average, self._trained = {}, {}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.updates and self._average:
            state = checkpoint["state_dict"]
            weights = {name: state[name] for name in self._average}
            checkpoint["state_dict"] = {**state, **self._average}
            checkpoint[KEY] = {"updates": self.updates, "step": self._step, "weights": weights}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """In fit, go on from the current weights; outside it the average is what is wanted, and loaded already."""
        if trainer.state.fn == TrainerFn.FITTING and "current_model_state" in checkpoint:
            raise CheckpointError(
                f"{trainer.ckpt_path} holds averaged weights as version 0.2 wrote them: training cannot go on from it; "
                "start another run with init_from"
            )
        if trainer.state.fn != TrainerFn.FITTING or KEY not in checkpoint:
            return
        saved = checkpoint[KEY]
        if self.decay is not None:
            self.updates, self._step = saved["updates"], saved["step"]
            self._average = {name: checkpoint["state_dict"][name].clone() for name in saved["weights"]}
        pl_module.load_state_dict(saved["weights"], strict=False)

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange model and average. Before the first step they are the same, or the model was loaded since."""
        if self.updates:
            for name, average in self._average.items():
                current = self._trained[name].detach().clone()
                self._trained[name].copy_(average)
                average.copy_(current)
