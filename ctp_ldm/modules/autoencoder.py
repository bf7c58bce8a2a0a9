"""Stage 1: the image autoencoder, whose latents the next stages diffuse."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from ctp_ldm.losses.region import normalised_weights
from ctp_ldm.modules.base import TranslationModule
from ctp_ldm.networks import ImageAutoencoder
from ctp_ldm.sample import Sample

ADC_GATE = 30.0


class AutoencoderModule(TranslationModule):
    """L1 reconstruction with a codebook (VQ) or a KL term. `synthesise` is the reconstruction of the real image.

    What it cannot reconstruct no later stage can synthesise: when validation ends with a lesion ADC error above
    30 × 10⁻⁶ mm²/s it warns that post-training will have nothing to show.

    Args:
        spec, optimizer, lr_scheduler: see `TranslationModule`.
        autoencoder: diffusers' config of `VQModel` or `AutoencoderKL`.
        regulariser_weight: of the codebook and commitment term (published: 1) or of the KL term per latent value.
        channel_weights: factor of each target channel in the L1 term, rescaled to mean 1.
    """

    stage: ClassVar[str] = "autoencoder"
    starts_from: ClassVar[Mapping[str, str]] = {"autoencoder": "autoencoder."}

    def __init__(
        self,
        spec: dict[str, Any],
        autoencoder: dict[str, Any],
        regulariser_weight: float = 1.0,
        channel_weights: list[float] | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(spec, optimizer, lr_scheduler)
        self.autoencoder = ImageAutoencoder(autoencoder, channels=len(self.spec.target))
        self.regulariser_weight = regulariser_weight
        self.channel_weights = channel_weights or [1.0] * len(self.spec.target)

    def loss(self, batch: Sample) -> dict[str, Tensor]:
        target = batch["target"]
        reconstruction, regulariser = self.autoencoder.reconstruct(target)
        error = (reconstruction.float() - target.float()).abs()
        return {
            "l1": (error * normalised_weights(self.channel_weights, error)).mean(),
            "regulariser": self.regulariser_weight * regulariser.float(),
        }

    def synthesise(self, batch: Sample) -> Tensor:
        return self.autoencoder.decode(self.autoencoder.encode(batch["target"]))

    def on_fit_end(self) -> None:
        error = self.trainer.callback_metrics.get("val/lesion_mae_adc")
        if error is not None and error > ADC_GATE:
            rank_zero_warn(
                f"the autoencoder's lesion ADC error is {error:.0f} × 10⁻⁶ mm²/s, above the gate of {ADC_GATE:.0f}: a "
                "diffusion model on these latents cannot show what lesion-aware post-training does; train longer, "
                "or use more latent channels or a smaller factor"
            )
