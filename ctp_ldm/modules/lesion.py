"""What all models share that find lesions instead of synthesising images."""

from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from ctp_ldm.metrics import LesionOverlap, mean_over_patients
from ctp_ldm.modules.base import TranslationModule
from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample, Synthesis
from ctp_ldm.scaling import Linear
from ctp_ldm.spec import Channel

LESION = Channel("lesion", Linear("probability", 0.0, 1.0))


class LesionModule(TranslationModule):
    """Predicts the probability of lesion; evaluation compares where it exceeds `threshold` with the reference.

    Validation logs `val/dice` over whole patients, which checkpoints are chosen by.

    Args:
        spec, optimizer, lr_scheduler: see `TranslationModule`.
        threshold: probability above which a voxel is lesion.

    Raises:
        ConfigError: a threshold that is no probability.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        threshold: float = 0.5,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(spec, optimizer, lr_scheduler)
        if not 0 < threshold < 1:
            raise ConfigError(f"threshold is {threshold}; expected a probability between 0 and 1")
        self.threshold = threshold
        self.val_overlap = LesionOverlap()

    @property
    def outputs(self) -> tuple[Channel, ...]:
        return (LESION,)

    @abstractmethod
    def probability(self, batch: Sample) -> Tensor:
        """(B, 1, H, W) probability of lesion, 0 outside the brain."""

    def found(self, synthesis: Synthesis) -> Tensor:
        """(B, 1, H, W) bool: lesion."""
        return synthesis["image"] > self.threshold

    def scores(self, synthesis: Synthesis, batch: Sample) -> Tensor:
        """(B, 1, H, W) in [0, 1]: `found` is where they are above `threshold`; operating curves take other cut-offs."""
        return synthesis["image"]

    def synthesise(self, batch: Sample) -> Tensor:
        return LESION.scaling.encode(self.probability(batch))

    def predict_step(self, batch: Sample, batch_idx: int) -> Synthesis:
        return {"image": self.probability(batch)}

    def validation_step(self, batch: Sample, batch_idx: int) -> Synthesis:
        synthesis = self.predict_step(batch, batch_idx)
        self.val_overlap.update(self.found(synthesis), batch)
        return synthesis

    def on_validation_epoch_end(self) -> None:
        means = mean_over_patients(self.val_overlap.compute())
        self.val_overlap.reset()
        self.log("val/dice", means["dice"], prog_bar=True)
        self.log("val/false_voxels", means["false"])
