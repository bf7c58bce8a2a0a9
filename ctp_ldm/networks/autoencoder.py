"""One face for diffusers' two image autoencoders, and for having none."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, VQModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ctp_ldm.networks.build import build_component


class PixelSpace(nn.Module, ConfigMixin):
    """In the place of an autoencoder: the image is its own latents. With it a latent method becomes its pixel rival."""

    config_name = "config.json"

    @register_to_config
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()


class ImageAutoencoder(nn.Module):
    """`VQModel` or `AutoencoderKL` between images (B, C, H, W) and latents (B, Cz, H / factor, W / factor).

    `PixelSpace` has factor 1 and no weights: what is diffused is the image itself.

    Args:
        config: diffusers' `config.json` without in_channels and out_channels, or `{_class_name: PixelSpace}`.
        channels: C.

    Raises:
        ConfigError: the config is wrong.
    """

    def __init__(self, config: Mapping[str, Any], channels: int) -> None:
        super().__init__()
        # VQModel, AutoencoderKL or PixelSpace. mypy skips diffusers, and would check all uses against PixelSpace.
        self.net: Any = build_component(
            "autoencoder",
            config,
            {"VQModel": VQModel, "AutoencoderKL": AutoencoderKL, "PixelSpace": PixelSpace},
            in_channels=channels,
            out_channels=channels,
        )

    @property
    def in_pixels(self) -> bool:
        """Whether there is nothing to train or load."""
        return isinstance(self.net, PixelSpace)

    @property
    def factor(self) -> int:
        """Image pixels per latent pixel along each axis."""
        if self.in_pixels:
            return 1
        return int(2 ** (len(self.net.config["block_out_channels"]) - 1))

    @property
    def latent_channels(self) -> int:
        if self.in_pixels:
            return int(self.net.config["in_channels"])
        return int(self.net.config["latent_channels"])

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the decoder's last convolution, (C, block_out_channels[0], 3, 3)."""
        return self.net.decoder.conv_out.weight

    def encode(self, images: Tensor) -> Tensor:
        """Images → latents, without randomness: before quantisation (VQ), or the posterior's mean (KL)."""
        if self.in_pixels:
            return images
        if isinstance(self.net, VQModel):
            return self.net.encode(images).latents
        return self.net.encode(images).latent_dist.mode()

    def decode(self, latents: Tensor, save_memory: bool = False) -> Tensor:
        """Latents → images; VQ quantises first and passes the gradient straight through.

        Args:
            latents: (B, Cz, h, w).
            save_memory: recompute activations in the backward pass; neither diffusers model can do so by itself.
        """
        if self.in_pixels:
            return latents
        if save_memory and torch.is_grad_enabled():
            return checkpoint(self._decode, latents, use_reentrant=False)
        return self._decode(latents)

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """For training.

        Returns:
            The reconstruction (B, C, H, W), and the regulariser: VQ's codebook and commitment term, or KL's divergence
            from the standard normal distribution per latent value, averaged over the batch.
        """
        if isinstance(self.net, VQModel):
            latents, regulariser = self._quantise(self.net.encode(images).latents)
            return self._decode_quantised(latents), regulariser
        moments = self.net.encode(images).latent_dist.parameters
        # float32: the divergence is a sum of differences that nearly cancel, over all latent values.
        posterior = DiagonalGaussianDistribution(moments.float())
        latents = posterior.sample()
        return self._decode(latents.to(moments.dtype)), posterior.kl().mean() / latents[0].numel()

    def _decode(self, latents: Tensor) -> Tensor:
        if isinstance(self.net, VQModel):
            return self._decode_quantised(self._quantise(latents)[0])
        return self.net.decode(latents).sample

    def _quantise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest codes (B, Cz, h, w) with a straight-through gradient, and the codebook and commitment term."""
        # In the codebook's own precision: bfloat16 cannot tell neighbouring codes apart.
        with torch.autocast(latents.device.type, enabled=False):
            codes, regulariser, _ = self.net.quantize(latents.to(self.net.quantize.embedding.weight.dtype))
        return codes, regulariser

    def _decode_quantised(self, codes: Tensor) -> Tensor:
        # Not net.decode(codes, force_not_quantize=True): with lookup_from_codebook that takes indices.
        spatial = codes if self.net.config["norm_type"] == "spatial" else None
        return self.net.decoder(self.net.post_quant_conv(codes), spatial)
