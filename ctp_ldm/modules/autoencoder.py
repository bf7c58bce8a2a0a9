"""Stage 1: the image autoencoder, whose latents the next stages diffuse."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn
from torch.optim import Optimizer

from ctp_ldm.losses import (
    RegionError,
    adaptive_weight,
    channel_factors,
    frozen,
    hinge_discriminator,
    hinge_generator,
)
from ctp_ldm.modules.base import TranslationModule
from ctp_ldm.networks import ConfigError, ImageAutoencoder, build_component
from ctp_ldm.sample import Sample

ADC_GATE = 30.0


class AutoencoderModule(TranslationModule):
    """L1 reconstruction with a codebook (VQ) or a KL term. `synthesise` is the reconstruction of the real image.

    A patch discriminator sharpens it (VQGAN, Esser et al. 2021): one optimiser with a group of parameters for each of
    the two networks, and one backward pass in which each is trained by its own term only.

    What it cannot reconstruct no later stage can synthesise: when validation ends with a lesion ADC error above
    30 × 10⁻⁶ mm²/s it warns that post-training will have nothing to show.

    Args:
        spec, optimizer, lr_scheduler: see `TranslationModule`.
        autoencoder: diffusers' config of `VQModel` or `AutoencoderKL`; with `unshuffle: n` behind a pixel-unshuffle.
        regulariser_weight: of the codebook and commitment term (published: 1) or of the KL term per latent value.
        channel_weights: target channel → factor in the L1 terms, rescaled to mean 1; see `losses.channel_factors`.
        image_weight: of the mean absolute error over the whole picture.
        brain_weight: of its mean over the brain, beside which most of the picture is background that is soon learnt.
        lesion_weight: of its mean over the lesions of a batch: without it a small lesion is hardly worth a latent.
        initial_log_variance: where KL's log-variance starts, such as −5; None for as diffusers' network has it.
        discriminator: arguments of MONAI's `PatchDiscriminator`; None for none.
        adversarial_weight: of the adversarial term relative to L1, after the adaptive balance (`adaptive_weight`).
        adversarial_start: optimiser steps before the discriminator and its term come in.

    Raises:
        ConfigError: of a network, no network, images that it cannot reduce, a negative weight or start, or nothing to
            optimise.
    """

    stage: ClassVar[str] = "autoencoder"
    starts_from: ClassVar[Mapping[str, str]] = {"autoencoder": "autoencoder."}
    channel_factors: Tensor

    def __init__(
        self,
        spec: dict[str, Any],
        autoencoder: dict[str, Any],
        regulariser_weight: float = 1.0,
        channel_weights: dict[str, float] | None = None,
        image_weight: float = 1.0,
        brain_weight: float = 0.0,
        lesion_weight: float = 0.0,
        initial_log_variance: float | None = None,
        discriminator: dict[str, Any] | None = None,
        adversarial_weight: float = 0.2,
        adversarial_start: int = 0,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(spec, optimizer, lr_scheduler)
        self.autoencoder = ImageAutoencoder(autoencoder, channels=len(self.spec.target))
        self.regulariser_weight = regulariser_weight
        factors = channel_factors(channel_weights, self.spec.target_names)
        self.register_buffer("channel_factors", factors, persistent=False)
        self.image_weight = image_weight
        faults = []
        if self.autoencoder.in_pixels:
            faults.append(
                "autoencoder._class_name is PixelSpace, which has nothing to train; expected AutoencoderKL or VQModel, "
                "or no stage 1: a model in pixel space starts with stage 2 and init_from: null"
            )
        elif any(n % self.autoencoder.factor for n in self.spec.size):
            faults.append(
                f"data.size {list(self.spec.size)} is not divisible by {self.autoencoder.factor} (autoencoder)"
            )
        weights = {"image": image_weight, "brain": brain_weight, "lesion": lesion_weight}
        named = {f"{region}_weight": weight for region, weight in weights.items()}
        for name, weight in {**named, "adversarial_weight": adversarial_weight}.items():
            if not weight >= 0:
                faults.append(f"{name} is {weight}; expected at least 0")
        if not any(weights.values()):
            faults.append(f"{', '.join(named)} are all 0; expected one above 0, or there is no image to learn")
        if adversarial_start < 0:
            faults.append(f"adversarial_start is {adversarial_start}; expected 0 or a number of optimiser steps")
        if faults:
            raise ConfigError("\n".join(faults))
        if initial_log_variance is not None:
            self.autoencoder.start_at_log_variance(initial_log_variance)
        brain = RegionError("brain", brain_weight, 1, channel_weights, name="l1_brain")
        lesion = RegionError("lesion", lesion_weight, 1, channel_weights, name="l1_lesion")
        self.regions = nn.ModuleList(term for term in (brain, lesion) if term.weight > 0)
        for term in self._region_terms():
            term.bind(self.spec)
        self.adversarial_weight, self.adversarial_start = adversarial_weight, adversarial_start
        self.discriminator: PatchDiscriminator | None = None
        if discriminator is not None:
            # Instance norm: the statistics of batch norm would differ between processes.
            self.discriminator = build_component(
                "discriminator",
                discriminator,
                {"PatchDiscriminator": PatchDiscriminator},
                spatial_dims=2,
                in_channels=len(self.spec.target),
                norm="INSTANCE",
            )

    def loss(self, batch: Sample) -> dict[str, Tensor]:
        target = batch["target"]
        reconstruction, regulariser = self.autoencoder.reconstruct(target)
        error = (reconstruction.float() - target.float()).abs()
        errors = {"l1": self.image_weight * (error * self.channel_factors).mean()}
        errors |= {term.name: term.weight * term(reconstruction, target, batch) for term in self._region_terms()}
        terms = {**errors, "regulariser": self.regulariser_weight * regulariser.float()}
        if self.discriminator is not None:
            l1 = torch.stack(list(errors.values())).sum()
            terms |= self._adversarial_terms(self.discriminator, target, reconstruction, l1)
        return terms

    def _region_terms(self) -> list[RegionError]:
        return cast(list[RegionError], list(self.regions))

    def _adversarial_terms(
        self, discriminator: PatchDiscriminator, target: Tensor, reconstruction: Tensor, l1: Tensor
    ) -> dict[str, Tensor]:
        """The autoencoder's term and the discriminator's own, both 0 before the start."""
        with frozen(discriminator):
            generator = hinge_generator(discriminator(reconstruction)[-1])
        balance = adaptive_weight(l1, generator, self.autoencoder.last_layer)
        own = hinge_discriminator(discriminator(target)[-1], discriminator(reconstruction.detach())[-1])
        # Times 0 instead of left out: plain DDP waits for a gradient of every parameter.
        step = self.trainer.global_step if self._trainer is not None else 0
        active = float(step >= self.adversarial_start)
        return {
            "adversarial": active * self.adversarial_weight * balance * generator,
            "discriminator": active * own,
        }

    def parameter_groups(self) -> list[Any]:
        if self.discriminator is None:
            return super().parameter_groups()
        networks = {"autoencoder": self.autoencoder, "discriminator": self.discriminator}
        return [
            {"name": name, "params": [p for p in network.parameters() if p.requires_grad]}
            for name, network in networks.items()
        ]

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Each network's gradient is clipped on its own: a steep discriminator must not slow the autoencoder down."""
        groups = optimizer.param_groups
        try:
            for group in groups:
                optimizer.param_groups = [group]
                self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        finally:
            optimizer.param_groups = groups

    def describe(self) -> dict[str, Any]:
        return {"autoencoder": self.autoencoder.describe()}

    def synthesise(self, batch: Sample) -> Tensor:
        return self.autoencoder.decode(self.autoencoder.encode(batch["target"]))

    def on_fit_end(self) -> None:
        error = self.trainer.callback_metrics.get("val/lesion_mae_adc")
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if error is not None and error > ADC_GATE:
            rank_zero_warn(
                f"the autoencoder's lesion ADC error is {error:.0f} × 10⁻⁶ mm²/s, above the gate of {ADC_GATE:.0f}: a "
                "diffusion model on these latents cannot show what lesion-aware post-training does; train longer, "
                "or use more latent channels or a smaller factor"
            )
