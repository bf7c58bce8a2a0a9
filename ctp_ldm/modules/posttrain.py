"""Stage 3: lesion-aware post-training of a latent generative model on the decoded pixels."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from ctp_ldm.losses import PixelTerm
from ctp_ldm.modules.diffusion import LatentDiffusionModule
from ctp_ldm.networks import ConfigError, Noise
from ctp_ldm.sample import Sample


class LesionAwarePostTraining(LatentDiffusionModule):
    """Goes on training a latent model with losses on the decoded estimate of the clean image.

    loss = latent_weight · ‖output − target‖² + Σ weight · term(D(ẑ0), image), after Lee et al. 2025 (arXiv 2510.09056),
    with the real image instead of its reconstruction as the target: the autoencoder's error can then be corrected.
    With an empty list of terms this is the equally long control.

    The base may be of any family of `LatentDiffusionModule`. With latent_weight 0, `noise: zero` and the last timestep
    only, it is one-step end-to-end fine-tuning (Garcia et al., WACV 2025). In pixel space (`PixelSpace`) it needs no
    base: with an L1 and an adversarial term it is then pix2pix (Isola et al. 2017).

    Args:
        spec, autoencoder, denoiser, scheduler, condition: as in the base that `init_from` names; see
            `LatentDiffusionModule`.
        steps, noise, timestep_range, min_snr_gamma, lesion_weight, sampling_seed, samples, compile, cache_latents: see
            there.
        optimizer, lr_scheduler: see `TranslationModule`.
        terms: decoded-pixel terms.
        latent_weight: of the latent terms.
        decoded_target: what the terms compare with: the real "image", or, as published, its "reconstruction".
        checkpoint_decoder: recompute the decoder in the backward pass instead of keeping its activations.

    Raises:
        ConfigError: settings that contradict one another.
    """

    stage: ClassVar[str] = "posttrain"
    starts_from: ClassVar[Mapping[str, str]] = {"diffusion": "", "posttrain": ""}

    def __init__(
        self,
        spec: dict[str, Any],
        autoencoder: dict[str, Any],
        denoiser: dict[str, Any],
        scheduler: dict[str, Any],
        condition: dict[str, Any] | None = None,
        terms: list[PixelTerm] | None = None,
        latent_weight: float = 1.0,
        decoded_target: Literal["image", "reconstruction"] = "image",
        checkpoint_decoder: bool = True,
        steps: int = 10,
        noise: Noise = "random",
        timestep_range: tuple[int, int] | None = None,
        min_snr_gamma: float | None = None,
        lesion_weight: float = 0.0,
        sampling_seed: int = 0,
        samples: int = 1,
        compile: bool = False,
        cache_latents: str | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(
            spec,
            autoencoder,
            denoiser,
            scheduler,
            condition,
            steps=steps,
            noise=noise,
            timestep_range=timestep_range,
            min_snr_gamma=min_snr_gamma,
            lesion_weight=lesion_weight,
            sampling_seed=sampling_seed,
            samples=samples,
            compile=compile,
            cache_latents=cache_latents,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
        )
        names = [term.name for term in terms or []]
        faults = [f"two terms are named {name!r}; give one another name" for name in names if names.count(name) > 1]
        if not latent_weight >= 0 or (latent_weight == 0 and not names):
            faults.append(f"latent_weight is {latent_weight} with terms {names}; expected something to optimise")
        for term in terms or []:
            try:
                term.bind(self.spec)
            except ValueError as error:
                faults.append(str(error))
            faults += self._timestep_faults(term)
        if faults:
            raise ConfigError("\n".join(dict.fromkeys(faults)))
        self.terms = nn.ModuleList(terms or [])
        self.latent_weight, self.decoded_target = latent_weight, decoded_target
        self.checkpoint_decoder = checkpoint_decoder

    def _timestep_faults(self, term: PixelTerm) -> list[str]:
        low, high = self.timestep_range
        if term.timesteps is None:
            return []
        first, end = term.timesteps
        if end > self.process.timesteps:
            return [f"loss term {term.name!r} acts at timesteps {[first, end]} of {self.process.timesteps}"]
        if first >= high or low >= end:
            own = f"of which timestep_range {[low, high]} trains none"
            return [f"loss term {term.name!r} acts at timesteps {[first, end]}, {own}"]
        return []

    def loss(self, batch: Sample) -> dict[str, Tensor]:
        errors, clean, timesteps = self.denoise(batch)
        losses = {name: self.latent_weight * value for name, value in self.latent_terms(errors, batch).items()}
        if not len(self.terms):
            return losses
        decoded = self.decode(clean, save_memory=self.checkpoint_decoder)
        target = batch["target"]
        if self.decoded_target == "reconstruction":
            with torch.no_grad():
                target = self.decode(self.latents(batch))
        for module in self.terms:
            term = cast(PixelTerm, module)
            acts = _within(timesteps, term.timesteps)
            if not acts.any():
                # Times 0 instead of left out: plain DDP waits for a gradient of every parameter.
                losses[term.name] = 0 * (decoded.sum() + sum(p.sum() for p in term.parameters() if p.requires_grad))
                continue
            seen = decoded[acts], target[acts], _subset(batch, acts)
            losses[term.name] = term.weight * term(*seen)
            own = term.own_loss(*seen)
            if own is not None:
                losses[f"{term.name}_own"] = own
        return losses

    def parameter_groups(self) -> list[Any]:
        own = [parameter for parameter in self.terms.parameters() if parameter.requires_grad]
        if not own:
            return super().parameter_groups()
        parts = (self.denoiser, self.condition)
        model = [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]
        return [{"name": "denoiser", "params": model}, {"name": "terms", "params": own}]


def _within(timesteps: Tensor, bounds: tuple[int, int] | None) -> Tensor:
    """(B,) bool."""
    if bounds is None:
        return torch.ones_like(timesteps, dtype=torch.bool)
    return (timesteps >= bounds[0]) & (timesteps < bounds[1])


def _subset(batch: Sample, chosen: Tensor) -> Sample:
    """Those slices of a batch."""
    if bool(chosen.all()):
        return batch
    places = chosen.nonzero().flatten().tolist()
    picked = {k: v[chosen.to(v.device)] if isinstance(v, Tensor) else [v[i] for i in places] for k, v in batch.items()}  # type: ignore[index]
    return cast(Sample, picked)
