"""What models on the latents of a frozen autoencoder share: the way there and back, and latents known beforehand."""

from pathlib import Path
from typing import Any, Self

import lightning as L
import torch
from torch import Tensor

from ctp_ldm.modules.base import TranslationModule
from ctp_ldm.modules.cached_latents import KEY, CachedLatents, file_name, provide_latents
from ctp_ldm.networks import ConfigError, ImageAutoencoder
from ctp_ldm.sample import Sample, Showings


class LatentModule(TranslationModule):
    """A module with a frozen autoencoder, whose latents are standardised.

    Attributes:
        autoencoder: frozen.
        latent_mean, latent_std: (1, Cz, 1, 1), of its latents in the training data.
        cache_latents: folder of the file from which training batches bring their latents; None to encode in every step.
        cached: that file, while it trains.
    """

    autoencoder: ImageAutoencoder
    latent_mean: Tensor
    latent_std: Tensor
    cache_latents: str | None
    cached: CachedLatents | None = None

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images in [−1, 1] → standardised latents (B, Cz, h, w), float32."""
        return self._standardise(self.autoencoder.encode(images))

    def latents(self, batch: Sample) -> Tensor:
        """Standardised latents (B, Cz, h, w) of the target; nothing is encoded where the batch brings them."""
        return self._standardise(batch["latent"]) if "latent" in batch else self.encode(batch["target"])

    def _standardise(self, latents: Tensor) -> Tensor:
        return (latents.float() - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor, save_memory: bool = False) -> Tensor:
        """Standardised latents → images (B, Ct, H, W)."""
        return self.autoencoder.decode(latents * self.latent_std + self.latent_mean, save_memory)

    def train(self, mode: bool = True) -> Self:
        """The frozen autoencoder stays in evaluation mode."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def require_data(self, data: L.LightningDataModule) -> None:
        if self.cache_latents is None:
            return
        remedy = f"or {KEY}: null, found {self.cache_latents}"
        if self.autoencoder.in_pixels:
            raise ConfigError(
                f"model.init_args.autoencoder is PixelSpace, whose latents are the images; expected a network, {remedy}"
            )
        if data.flips is None:  # type: ignore[attr-defined]
            raise ConfigError(
                "data.init_args.augment is true, which moves slices to ever new places; expected false, mirror or "
                f"flips, of which all latents can be encoded beforehand, {remedy}"
            )

    def on_fit_start(self) -> None:
        """Encode what no run has encoded before, in one process of each machine; then map it in all of them."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.require_data(data)
        if self.cache_latents is None or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        showings: Showings = data.showings()
        height, width = (n // self.autoencoder.factor for n in self.spec.size)
        shape = (self.autoencoder.latent_channels, height, width)
        path = Path(self.cache_latents) / file_name(self.autoencoder, showings)
        if self.local_rank == 0:
            bar = self.trainer.progress_bar_callback is not None
            provide_latents(path, self.autoencoder, showings, shape, bar)
        self.trainer.strategy.barrier()
        self.cached = CachedLatents(path, showings, shape)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Look latents up while the keys are in the CPU's memory: on a GPU each step would wait for them."""
        return (
            {**batch, "latent": self.cached.of(batch)} if self.cached is not None and self.trainer.training else batch
        )

    def on_fit_end(self) -> None:
        self.cached = None
