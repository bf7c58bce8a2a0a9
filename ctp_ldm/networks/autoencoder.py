"""One face for diffusers' two image autoencoders."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ctp_ldm.networks.build import build_component


class ImageAutoencoder(nn.Module):
    """`VQModel` or `AutoencoderKL` between images (B, C, H, W) and latents (B, Cz, H / factor, W / factor).

    Args:
        config: diffusers' `config.json` without in_channels and out_channels.
        channels: C.

    Raises:
        ConfigError: the config is wrong.
    """

    def __init__(self, config: Mapping[str, Any], channels: int) -> None:
        super().__init__()
        self.net: VQModel | AutoencoderKL = build_component(
            "autoencoder",
            config,
            {"VQModel": VQModel, "AutoencoderKL": AutoencoderKL},
            in_channels=channels,
            out_channels=channels,
        )

    @property
    def factor(self) -> int:
        """Image pixels per latent pixel along each axis."""
        return int(2 ** (len(self.net.config["block_out_channels"]) - 1))

    @property
    def latent_channels(self) -> int:
        return int(self.net.config["latent_channels"])

    def encode(self, images: Tensor) -> Tensor:
        """Images → latents, without randomness: before quantisation (VQ), or the posterior's mean (KL)."""
        if isinstance(self.net, VQModel):
            return self.net.encode(images).latents
        return self.net.encode(images).latent_dist.mode()

    def decode(self, latents: Tensor, save_memory: bool = False) -> Tensor:
        """Latents → images; VQ quantises first and passes the gradient straight through.

        Args:
            latents: (B, Cz, h, w).
            save_memory: recompute activations in the backward pass; neither diffusers model can do so by itself.
        """
        if save_memory and torch.is_grad_enabled():
            return checkpoint(lambda z: self.net.decode(z).sample, latents, use_reentrant=False)
        return self.net.decode(latents).sample

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """For training.

        Returns:
            The reconstruction (B, C, H, W), and the regulariser: VQ's codebook and commitment term, or KL's divergence
            from the standard normal distribution per latent value, averaged over the batch.
        """
        if isinstance(self.net, VQModel):
            decoded = self.net.decode(self.net.encode(images).latents)
            return decoded.sample, decoded.commit_loss.mean()
        posterior = self.net.encode(images).latent_dist
        latents = posterior.sample()
        return self.net.decode(latents).sample, posterior.kl().mean() / latents[0].numel()
