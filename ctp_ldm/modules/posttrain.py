"""Stage 3: lesion-aware post-training of a latent diffusion model on the decoded pixels."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from ctp_ldm.losses import PixelTerm
from ctp_ldm.modules.diffusion import LatentDiffusionModule
from ctp_ldm.networks import ConfigError
from ctp_ldm.runs import CheckpointError
from ctp_ldm.sample import Sample


class LesionAwarePostTraining(LatentDiffusionModule):
    """Goes on training a latent diffusion model with losses on the decoded estimate of the clean image.

    loss = latent_weight · ‖output − target‖² + Σ weight · term(D(ẑ0), image), after Lee et al. 2025 (arXiv 2510.09056),
    with the real image instead of its reconstruction as the target: the autoencoder's error can then be corrected.
    With an empty list of terms this is the equally long control.

    Args:
        spec, autoencoder, denoiser, scheduler, steps, sampling_seed, compile, optimizer, lr_scheduler: see
            `LatentDiffusionModule`; the first four as in the base that `init_from` names.
        terms: decoded-pixel terms.
        latent_weight: of the latent loss.
        timestep_range: first and one past the last timestep that is trained; None for all.
        checkpoint_decoder: recompute the decoder in the backward pass instead of keeping its activations.
    """

    stage: ClassVar[str] = "posttrain"
    starts_from: ClassVar[Mapping[str, str]] = {"diffusion": "", "posttrain": ""}

    def __init__(
        self,
        spec: dict[str, Any],
        autoencoder: dict[str, Any],
        denoiser: dict[str, Any],
        scheduler: dict[str, Any],
        terms: list[PixelTerm] | None = None,
        latent_weight: float = 1.0,
        timestep_range: tuple[int, int] | None = None,
        checkpoint_decoder: bool = True,
        steps: int = 10,
        sampling_seed: int = 0,
        compile: bool = False,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(
            spec,
            autoencoder,
            denoiser,
            scheduler,
            steps=steps,
            sampling_seed=sampling_seed,
            compile=compile,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
        )
        self.terms = nn.ModuleList(terms or [])
        names = [term.name for term in terms or []]
        last = len(self.prediction.alphas_cumprod)
        low, high = timestep_range or (0, last)
        faults = []
        if len(set(names)) < len(names):
            faults.append(f"terms are named {names}; expected different names")
        if not 0 <= low < high <= last:
            faults.append(f"timestep_range is {[low, high]}; expected 0 ≤ first < end ≤ {last}")
        if not latent_weight >= 0 or (latent_weight == 0 and not names):
            faults.append(f"latent_weight is {latent_weight} with terms {names}; expected something to optimise")
        if faults:
            raise ConfigError("\n".join(faults))
        self.latent_weight, self.timestep_range = latent_weight, (low, high)
        self.checkpoint_decoder = checkpoint_decoder

    def loss(self, batch: Sample) -> dict[str, Tensor]:
        latent, clean = self.denoise(batch, self.timestep_range)
        losses = {"latent": self.latent_weight * latent}
        if len(self.terms):
            decoded = self.decode(clean, save_memory=self.checkpoint_decoder)
            for term in self.terms:
                assert isinstance(term, PixelTerm)
                losses[term.name] = term.weight * term(decoded, batch["target"], batch)
        return losses

    def on_fit_start(self) -> None:
        if self.base is None and self.latent_std.isnan().any():
            raise CheckpointError(
                "post-training needs a trained latent diffusion model: set init_from to its checkpoint"
            )
