"""Exponential moving average of the trained weights."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class EMA(WeightAveraging):
    """Validation, checkpoints and the next stage use averaged weights.

    After n steps the decay is min(decay, (1 + n) / (10 + n)). The warm-up is that of the published latent diffusion
    code: a short run is not held at its first weights. A checkpoint's `state_dict` is the average; training resumes
    from `current_model_state`.

    Args:
        decay: of the average, below 1.

    Raises:
        ValueError: decay outside [0, 1).
    """

    def __init__(self, decay: float = 0.9999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EMA decay is {decay}; expected 0 ≤ decay < 1")

        def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            rate = 1 - min(decay, (1 + float(updates)) / (10 + float(updates)))
            # In this form frozen weights, which never differ, keep every bit.
            return averaged + rate * (current - averaged)

        super().__init__(avg_fn=average)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Outside fit there is nothing to restore: the checkpoint's `state_dict` is the average."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Until the first update the average is the model, with what was loaded or estimated after it was copied."""
        if self._average_model is not None and int(self._average_model.n_averaged) == 0:
            self._average_model.module.load_state_dict(pl_module.state_dict())
