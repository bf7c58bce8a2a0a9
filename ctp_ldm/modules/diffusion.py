"""Stage 2: conditional diffusion in the latent space of a frozen autoencoder."""

import inspect
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import torch
from diffusers import UNet2DModel
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from ctp_ldm.modules.base import TranslationModule
from ctp_ldm.networks import ConfigError, ImageAutoencoder, Prediction, build_component, build_scheduler
from ctp_ldm.runs import CheckpointError
from ctp_ldm.sample import Sample


class LatentDiffusionModule(TranslationModule):
    """Latent diffusion (Rombach et al. 2022) of the target image, conditioned on the source by concatenation.

    The source is reduced to the latent grid by its mean over factor × factor pixels. Latents are standardised per
    channel with a mean and deviation that are estimated once from the training data and kept in the checkpoint.

    Args:
        spec, optimizer, lr_scheduler: see `TranslationModule`.
        autoencoder: diffusers' config, the same as in stage 1, whose weights `init_from` brings.
        denoiser: diffusers' config of `UNet2DModel`.
        scheduler: diffusers' scheduler config, for training and sampling.
        steps: of sampling.
        sampling_seed: with a slice's patient and index it fixes the slice's initial noise.
        latent_batches: training batches that the latents' mean and deviation are estimated from.
        compile: compile the denoiser in place.
    """

    stage: ClassVar[str] = "diffusion"
    starts_from: ClassVar[Mapping[str, str]] = {"autoencoder": "autoencoder.", "diffusion": ""}
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        spec: dict[str, Any],
        autoencoder: dict[str, Any],
        denoiser: dict[str, Any],
        scheduler: dict[str, Any],
        steps: int = 10,
        sampling_seed: int = 0,
        latent_batches: int = 64,
        compile: bool = False,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(spec, optimizer, lr_scheduler)
        self.autoencoder = ImageAutoencoder(autoencoder, channels=len(self.spec.target)).requires_grad_(False).eval()
        channels = self.autoencoder.latent_channels
        self.denoiser: UNet2DModel = build_component(
            "denoiser",
            denoiser,
            {"UNet2DModel": UNet2DModel},
            in_channels=channels + len(self.spec.source),
            out_channels=channels,
        )
        self._require_divisible_size()
        self.scheduler = build_scheduler(scheduler, steps)
        self.prediction = Prediction(self.scheduler.config["prediction_type"], self.scheduler.alphas_cumprod)
        self.steps, self.sampling_seed, self.latent_batches = steps, sampling_seed, latent_batches
        self.register_buffer("latent_mean", torch.full((1, channels, 1, 1), torch.nan))
        self.register_buffer("latent_std", torch.full((1, channels, 1, 1), torch.nan))
        if compile:
            # In place: a wrapper around the module would rename its weights and break resume together with EMA.
            self.denoiser.compile()

    def loss(self, batch: Sample) -> dict[str, Tensor]:
        return {"latent": self.denoise(batch)[0]}

    def denoise(self, batch: Sample, timestep_range: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """One training pass at random timesteps.

        Args:
            batch: with target.
            timestep_range: first and one past the last timestep; None for all.

        Returns:
            The mean squared error of the network's output, and the clean latents (B, Cz, h, w) that it implies.
        """
        latents = self.encode(batch["target"])
        low, high = timestep_range or (0, len(self.prediction.alphas_cumprod))
        timesteps = torch.randint(low, high, (len(latents),), device=latents.device)
        noise = torch.randn_like(latents)
        noisy = self.prediction.noisy(latents, noise, timesteps)
        output = self.predict_output(noisy, timesteps, self.condition(batch))
        error = F.mse_loss(output, self.prediction.target(latents, noise, timesteps))
        return error, self.prediction.clean(output, noisy, timesteps)

    def predict_output(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The network's output (B, Cz, h, w), float32, for noisy latents and condition."""
        return self.denoiser(torch.cat([noisy, condition], dim=1), timesteps).sample.float()

    def condition(self, batch: Sample) -> Tensor:
        """(B, Cs, h, w): the source's mean over each latent pixel."""
        return F.avg_pool2d(batch["source"], self.autoencoder.factor)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images in [−1, 1] → standardised latents (B, Cz, h, w), float32."""
        return (self.autoencoder.encode(images).float() - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor, save_memory: bool = False) -> Tensor:
        """Standardised latents → images (B, Ct, H, W)."""
        return self.autoencoder.decode(latents * self.latent_std + self.latent_mean, save_memory)

    def synthesise(self, batch: Sample) -> Tensor:
        condition = self.condition(batch)
        generators = self.generators(batch)
        noise = self.initial_noise(generators, condition)
        self.scheduler.set_timesteps(self.steps, device=condition.device)
        latents = noise * self.scheduler.init_noise_sigma
        # Stochastic samplers draw from the slice's own generator, never from the global one.
        takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
        extra = {"generator": generators} if takes_generator else {}
        for timestep in self.scheduler.timesteps:
            output = self.predict_output(latents, timestep.expand(len(latents)), condition)
            latents = self.scheduler.step(output, timestep, latents, **extra).prev_sample
        return self.decode(latents)

    def generators(self, batch: Sample) -> list[torch.Generator]:
        """A generator for each slice, the same whatever batch or process the slice comes in."""
        keys = zip(batch["case"], batch["slice_index"].tolist(), strict=True)
        seeds = [zlib.crc32(f"{self.sampling_seed}/{case}/{index}".encode()) for case, index in keys]
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def initial_noise(self, generators: list[torch.Generator], condition: Tensor) -> Tensor:
        """Standard normal (B, Cz, h, w), each slice's from its own generator."""
        shape = (1, self.autoencoder.latent_channels, *condition.shape[2:])
        return torch.cat([torch.randn(shape, generator=g) for g in generators]).to(condition.device)

    def on_fit_start(self) -> None:
        if self.base is None and self.latent_std.isnan().any():
            raise CheckpointError(
                f"{type(self).__name__} has no autoencoder to work with: set init_from to the checkpoint of stage "
                f"{' or '.join(self.starts_from)}"
            )
        if self.latent_std.isnan().any():
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            self.estimate_latent_scale(data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader())

    @torch.no_grad()
    def estimate_latent_scale(self, batches: Iterable[Sample]) -> None:
        """Set the latents' mean and deviation per channel from the first `latent_batches` batches; all processes agree.

        Raises:
            ConfigError: the latents are constant, so the autoencoder is not trained.
        """
        sums = torch.zeros(3, self.autoencoder.latent_channels, dtype=torch.float64, device="cpu")
        dry = self._trainer is not None and self.trainer.fast_dev_run  # type: ignore[attr-defined]
        for _, batch in zip(range(1 if dry else self.latent_batches), batches, strict=False):
            values = self.autoencoder.encode(batch["target"].to(self.device)).double().cpu().transpose(0, 1).flatten(1)
            sums += torch.stack([torch.full_like(values[:, 0], values.shape[1]), values.sum(1), (values**2).sum(1)])
        if self._trainer is not None:
            precise = torch.float32 if self.device.type == "mps" else torch.float64
            sums = self.trainer.strategy.reduce(sums.to(self.device, precise), reduce_op="sum").double().cpu()
        count, total, squares = sums
        mean = total / count
        deviation = (squares / count - mean**2).clamp(min=0).sqrt()
        if not (deviation > 1e-6).all():
            raise ConfigError(
                f"the latents' deviation is {deviation.tolist()}; expected above 0: train the autoencoder first"
            )
        self.latent_mean.copy_(mean.view(1, -1, 1, 1))
        self.latent_std.copy_(deviation.view(1, -1, 1, 1))

    def train(self, mode: bool = True) -> Self:
        """The frozen autoencoder stays in evaluation mode."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def _require_divisible_size(self) -> None:
        factor = self.autoencoder.factor * 2 ** (len(self.denoiser.config["block_out_channels"]) - 1)
        if any(n % factor for n in self.spec.size):
            raise ConfigError(
                f"data.size {list(self.spec.size)} is not divisible by {factor} (autoencoder {self.autoencoder.factor} "
                f"× denoiser {factor // self.autoencoder.factor}); choose multiples of {factor}"
            )
