"""Stage 2: conditional latent generation in the latent space of a frozen autoencoder."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from diffusers import UNet2DModel
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from ctp_ldm.losses import masked_mean
from ctp_ldm.modules.checkpoints import require_same_process
from ctp_ldm.modules.latent import LatentModule
from ctp_ldm.modules.settings import NoiseSettings, require_divisible_size, require_sensible
from ctp_ldm.networks import (
    BrownianBridgeScheduler,
    ConfigError,
    ForwardProcess,
    ImageAutoencoder,
    LatentMoments,
    Noise,
    SourceMean,
    build_component,
    build_condition,
    build_scheduler,
    describe_condition,
    initial_noise,
    plain_config,
    sample_latents,
    slice_generators,
    training_noise,
)
from ctp_ldm.runs import KEY, CheckpointError
from ctp_ldm.sample import Sample, Synthesis

SEED_STRIDE = 1_000_003
"""Between the seeds of several samples, so that runs with neighbouring seeds share none."""


class LatentDiffusionModule(LatentModule):
    """Latent diffusion (Rombach et al. 2022) of the target image, conditioned on the source by concatenation.

    The source is reduced to the latent grid by `condition`: its mean over factor × factor pixels, those pixels as
    channels, or a small encoder that is trained with the denoiser. Latents are standardised per channel with a mean and
    deviation that are estimated once from the training data and kept in the checkpoint.

    Other families are the same with another schedule:
    - one-step latent regression: `noise: zero`, only the last timestep, `prediction_type: sample`, one sampling step;
    - latent Brownian bridge: `BrownianBridgeScheduler`. It ends in the source's latents, here the linear map of the
      source's mean over each latent pixel that comes closest to the target's latents (least squares, estimated with
      their scale): CT perfusion has other channels than the target's autoencoder takes. What is diffused is the
      residual. Whatever the condition is, the end is that of the mean: an encoder that is trained would move it;
    - pixel space: `autoencoder: {_class_name: PixelSpace}`. There is no stage 1 to start from then.

    Args:
        spec, optimizer, lr_scheduler: see `TranslationModule`.
        autoencoder: diffusers' config, the same as in stage 1, whose weights `init_from` brings; or `PixelSpace`.
        denoiser: diffusers' config of `UNet2DModel`.
        scheduler: diffusers' scheduler config, or that of a `BrownianBridgeScheduler`, for training and sampling.
        condition: `_class_name` of SpaceToDepth, or of ConditionEncoder with its arguments; None for the mean.
        steps: of sampling.
        noise: what the latents are mixed with in training and what sampling starts from: "random", "fixed" (one for all
            slices, of the sampling seed) or "zero".
        timestep_range: first and one past the last timestep that is trained; None for all.
        min_snr_gamma: weight timesteps by min(SNR, γ) (see `ForwardProcess.min_snr_weights`); None for equal weights.
        lesion_weight: of a second latent term, the mean error where there is lesion, by the lesion's share of each
            latent pixel: what can be had of the lesion without decoding.
        sampling_seed: with a slice's patient and index it fixes the slice's initial noise.
        samples: drawn in evaluation and prediction; of several, the image is their mean, with their standard deviation.
        latent_batches: training batches that the latents' mean and deviation are estimated from.
        scale_factor: multiplies the latents instead of their estimated scale, as in CompVis' code (published: 1).
        compile: compile the denoiser in place.
        cache_latents: folder in which the latents of all training slices are kept, encoded once for all stages and
            runs; None to encode in every step. It needs `data.augment` false, "mirror" or "flips".

    Raises:
        ConfigError: settings that contradict one another.
    """

    stage: ClassVar[str] = "diffusion"
    starts_from: ClassVar[Mapping[str, str]] = {"autoencoder": "autoencoder.", "diffusion": ""}
    source_map: Tensor
    source_shift: Tensor

    def __init__(
        self,
        spec: dict[str, Any],
        autoencoder: dict[str, Any],
        denoiser: dict[str, Any],
        scheduler: dict[str, Any],
        condition: dict[str, Any] | None = None,
        steps: int = 10,
        noise: Noise = "random",
        timestep_range: tuple[int, int] | None = None,
        min_snr_gamma: float | None = None,
        lesion_weight: float = 0.0,
        sampling_seed: int = 0,
        samples: int = 1,
        latent_batches: int = 64,
        scale_factor: float | None = None,
        compile: bool = False,
        cache_latents: str | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(spec, optimizer, lr_scheduler)
        self.cache_latents = cache_latents
        self.autoencoder = ImageAutoencoder(autoencoder, channels=len(self.spec.target)).requires_grad_(False).eval()
        channels, sources = self.autoencoder.latent_channels, len(self.spec.source)
        self.condition = build_condition(condition, sources, self.autoencoder.factor)
        self.source_mean = SourceMean(sources, self.autoencoder.factor)
        self.denoiser: UNet2DModel = build_component(
            "denoiser",
            denoiser,
            {"UNet2DModel": UNet2DModel},
            in_channels=channels + self.condition.out_channels,
            out_channels=channels,
        )
        require_divisible_size(self.spec.size, self.autoencoder.factor, self.denoiser)
        self.scheduler = build_scheduler(scheduler, steps)
        self.process = ForwardProcess.of(self.scheduler)
        self.is_bridge = isinstance(self.scheduler, BrownianBridgeScheduler)
        self.steps, self.noise, self.sampling_seed, self.samples = steps, noise, sampling_seed, samples
        self.latent_batches = latent_batches
        self.timestep_range = timestep_range or (0, self.process.timesteps)
        self.min_snr_gamma, self.scale_factor, self.lesion_weight = min_snr_gamma, scale_factor, lesion_weight
        settings = NoiseSettings(
            self.process, self.scheduler, steps, noise, self.timestep_range, min_snr_gamma, samples
        )
        require_sensible(settings, scale_factor, lesion_weight)
        self.register_buffer("latent_mean", torch.full((1, channels, 1, 1), torch.nan))
        self.register_buffer("latent_std", torch.full((1, channels, 1, 1), torch.nan))
        if self.is_bridge:
            self.register_buffer("source_map", torch.zeros(channels, sources, 1, 1))
            self.register_buffer("source_shift", torch.zeros(channels))
        if compile:
            # In place: a wrapper around the module would rename its weights and break resume together with EMA.
            self.denoiser.compile()

    def loss(self, batch: Sample) -> dict[str, Tensor]:
        return self.latent_terms(self.denoise(batch)[0], batch)

    def latent_terms(self, errors: Tensor, batch: Sample) -> dict[str, Tensor]:
        """The terms of the objective that need no decoding.

        Args:
            errors: (B, Cz, h, w), of `denoise`.
            batch: with lesion where `lesion_weight` is above 0.

        Raises:
            ValueError: the lesion is missing.
        """
        terms = {"latent": errors.mean()}
        if self.lesion_weight > 0:
            if "lesion" not in batch:
                raise ValueError(
                    f"lesion_weight is {self.lesion_weight}, and not all training patients have lesion masks; prepare "
                    "them, set needs_lesion in the DataModule, or lesion_weight: 0"
                )
            share = F.avg_pool2d((batch["lesion"] * batch["brain"]).float(), self.autoencoder.factor)
            terms["latent_lesion"] = self.lesion_weight * masked_mean(errors, share)
        return terms

    def denoise(self, batch: Sample) -> tuple[Tensor, Tensor, Tensor]:
        """One training pass at random timesteps.

        Args:
            batch: with target.

        Returns:
            The squared errors (B, Cz, h, w) of the network's output, weighted by timestep; the clean latents
            (B, Cz, h, w) that it implies; and the timesteps (B,).
        """
        condition, start = self.condition(batch["source"]), self.endpoint(batch["source"])
        latents = self.latents(batch) - start
        timesteps = torch.randint(*self.timestep_range, (len(latents),), device=latents.device)
        noise = training_noise(self.noise, self.sampling_seed, latents)
        noisy = self.process.noisy(latents, noise, timesteps)
        output = self.predict_output(noisy, timesteps, condition)
        errors = F.mse_loss(output, self.process.target(latents, noise, timesteps), reduction="none")
        if self.min_snr_gamma is not None:
            errors = errors * self.process.min_snr_weights(timesteps, self.min_snr_gamma).view(-1, 1, 1, 1)
        return errors, self.process.clean(output, noisy, timesteps) + start, timesteps

    def predict_output(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The network's output (B, Cz, h, w), float32, for noisy latents and condition."""
        return self.denoiser(torch.cat([noisy, condition], dim=1), timesteps).sample.float()

    def endpoint(self, source: Tensor) -> Tensor:
        """The standardised latents (B, Cz, h, w) where a bridge ends; 0 of diffusion, which ends in noise.

        Args:
            source: (B, Cs, H, W).
        """
        if not self.is_bridge:
            return source.new_zeros(())
        return F.conv2d(self.source_mean(source).float(), self.source_map, self.source_shift)

    def predict_step(self, batch: Sample, batch_idx: int) -> Synthesis:
        if self.samples == 1:
            return super().predict_step(batch, batch_idx)
        seeds = [self.sampling_seed + SEED_STRIDE * i for i in range(self.samples)]
        images = torch.stack([self.to_physical(self.synthesise(batch, seed), batch) for seed in seeds])
        return {"image": images.mean(dim=0), "deviation": images.std(dim=0)}

    def synthesise(self, batch: Sample, seed: int | None = None) -> Tensor:
        """One sample.

        Args:
            seed: takes the place of the configured one.
        """
        seed = self.sampling_seed if seed is None else seed
        condition = self.condition(batch["source"])
        generators = slice_generators(seed, batch["case"], batch["slice_index"].tolist())
        shape = (self.autoencoder.latent_channels, *condition.shape[2:])
        noise = initial_noise(self.noise, generators, seed, shape, condition.device)
        latents = sample_latents(
            lambda noisy, timesteps: self.predict_output(noisy, timesteps, condition),
            self.scheduler,
            self.steps,
            noise,
            generators,
        )
        return self.decode(latents + self.endpoint(batch["source"]))

    def describe(self) -> dict[str, Any]:
        sampling: dict[str, Any] = {"steps": self.steps, "noise": self.noise, "seed": self.sampling_seed}
        if self.noise != "random":
            sampling["timestep_range"] = list(self.timestep_range)  # it knows no other timesteps
        return {
            "autoencoder": self.autoencoder.describe(),
            **describe_condition(self.condition),
            "denoiser": plain_config(self.denoiser),
            "scheduler": plain_config(self.scheduler),
            "sampling": sampling,
        }

    def require_fits(self, checkpoint: Mapping[str, Any], name: str) -> None:
        super().require_fits(checkpoint, name)
        require_same_process(self.process, checkpoint[KEY].get("scheduler"), name)

    def on_fit_start(self) -> None:
        if self.base is None and self.latent_std.isnan().any() and not self.autoencoder.in_pixels:
            raise CheckpointError(
                f"{type(self).__name__} has no trained networks to start from: set init_from to the checkpoint of "
                f"stage {' or '.join(self.starts_from)}"
            )
        super().on_fit_start()
        if self.latent_std.isnan().any() and self.scale_factor is not None:
            self.latent_mean.zero_()
            self.latent_std.fill_(1 / self.scale_factor)
        elif self.latent_std.isnan().any():
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            self.estimate_latent_scale(data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader())

    @torch.no_grad()
    def estimate_latent_scale(self, batches: Iterable[Sample]) -> None:
        """Set the latents' mean and deviation per channel, and a bridge's map of the source; all processes agree.

        Args:
            batches: of the training data; the first `latent_batches` of them are looked at.

        Raises:
            ConfigError: the latents are constant, so the autoencoder is not trained.
        """
        moments = LatentMoments(len(self.spec.source), self.autoencoder.latent_channels)
        dry = self._trainer is not None and self.trainer.fast_dev_run  # type: ignore[attr-defined]
        for _, batch in zip(range(1 if dry else self.latent_batches), batches, strict=False):
            if self.cached is not None:
                latents = self.cached.of(batch).to(self.device)
            else:
                latents = self.autoencoder.encode(batch["target"].to(self.device))
            moments.add(self.source_mean(batch["source"].to(self.device)), latents)
        if self._trainer is not None:
            precise = torch.float32 if self.device.type == "mps" else torch.float64
            total = self.trainer.strategy.reduce(moments.sums.to(self.device, precise), reduce_op="sum")
            moments.sums = total.double().cpu()
        mean, deviation = moments.scale()
        if not (deviation > 1e-6).all():
            raise ConfigError(
                f"the latents' deviation is {deviation.tolist()}; expected above 0: train the autoencoder first"
            )
        self.latent_mean.copy_(mean.view(1, -1, 1, 1))
        self.latent_std.copy_(deviation.view(1, -1, 1, 1))
        if self.is_bridge:
            weight, shift = moments.source_map()
            self.source_map.copy_(weight[..., None, None])
            self.source_shift.copy_(shift)
