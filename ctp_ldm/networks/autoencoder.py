"""One face for diffusers' two image autoencoders, and for having none."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, VQModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ctp_ldm.networks.build import CLASS_KEY, ConfigError, build_component, plain_config

UNSHUFFLE = "unshuffle"
"""In an autoencoder's config: pixels along each axis that become channels before the network; 1 where it is absent."""


class PixelSpace(nn.Module, ConfigMixin):
    """In the place of an autoencoder: the image is its own latents. With it a latent method becomes its pixel rival."""

    config_name = "config.json"

    @register_to_config
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()


AUTOENCODERS: dict[str, type] = {"VQModel": VQModel, "AutoencoderKL": AutoencoderKL}


def unshuffled(config: Mapping[str, Any]) -> int:
    """How many pixels along each axis become channels before an autoencoder's network; 1 for none.

    Raises:
        ConfigError: no such number.
    """
    found = config.get(UNSHUFFLE, 1)
    if type(found) is not int or found < 1:
        raise ConfigError(
            f"autoencoder.{UNSHUFFLE} is {found!r}; expected a whole number of pixels such as 2, 1 for none"
        )
    return found


def image_factor(config: Mapping[str, Any], unshuffle: int) -> int:
    """Image pixels per latent pixel along each axis.

    Args:
        config: of `VQModel` or `AutoencoderKL`.
        unshuffle: see `unshuffled`.
    """
    return int(unshuffle * 2 ** (len(config["block_out_channels"]) - 1))


def build_autoencoder(config: Mapping[str, Any], channels: int, classes: Mapping[str, type] = AUTOENCODERS) -> Any:
    """The network of a config; behind a pixel-unshuffle of n it has n² times the image's channels.

    Args:
        config: diffusers' `config.json` without in_channels and out_channels, with `unshuffle` or without.
        channels: of the image.
        classes: that may be named.

    Raises:
        ConfigError: the config is wrong.
    """
    inside = channels * unshuffled(config) ** 2
    is_pixels = config.get(CLASS_KEY) == PixelSpace.__name__  # which knows no settings, not this one either
    own = {key: value for key, value in config.items() if key != UNSHUFFLE or is_pixels}
    return build_component("autoencoder", own, classes, in_channels=inside, out_channels=inside)


class ImageAutoencoder(nn.Module):
    """`VQModel` or `AutoencoderKL` between images (B, C, H, W) and latents (B, Cz, H / factor, W / factor).

    With `unshuffle: n` in its config the network sees n × n pixels of a channel as so many channels (pixel-unshuffle),
    and its output is put back to pixels: a grid n times smaller without loss and without weights, where the network's
    own levels at full resolution would take most of its time.

    `PixelSpace` has factor 1 and no weights: what is diffused is the image itself.

    Args:
        config: diffusers' `config.json` without in_channels and out_channels, with `unshuffle` or without; or
            `{_class_name: PixelSpace}`.
        channels: C.

    Raises:
        ConfigError: the config is wrong.
    """

    def __init__(self, config: Mapping[str, Any], channels: int) -> None:
        super().__init__()
        # VQModel, AutoencoderKL or PixelSpace. mypy skips diffusers, and would check all uses against PixelSpace.
        self.net: Any = build_autoencoder(config, channels, AUTOENCODERS | {PixelSpace.__name__: PixelSpace})
        self.unshuffle = unshuffled(config)

    @property
    def in_pixels(self) -> bool:
        """Whether there is nothing to train or load."""
        return isinstance(self.net, PixelSpace)

    @property
    def factor(self) -> int:
        """Image pixels per latent pixel along each axis."""
        if self.in_pixels:
            return 1
        return image_factor(self.net.config, self.unshuffle)

    @property
    def latent_channels(self) -> int:
        if self.in_pixels:
            return int(self.net.config["in_channels"])
        return int(self.net.config["latent_channels"])

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the decoder's last convolution, (C · unshuffle², block_out_channels[0], 3, 3)."""
        return self.net.decoder.conv_out.weight

    def describe(self) -> dict[str, Any]:
        """The whole config that builds it again, `unshuffle` only where there is one."""
        return plain_config(self.net) | ({UNSHUFFLE: self.unshuffle} if self.unshuffle > 1 else {})

    def start_at_log_variance(self, value: float) -> None:
        """Set where the logarithm of a posterior's variance begins: the bias of the convolution that puts it out.

        A small variance lets a new `AutoencoderKL` learn the image before it learns to live with noise of variance 1.

        Raises:
            ConfigError: of another network, which has no variance.
        """
        if not isinstance(self.net, AutoencoderKL):
            raise ConfigError(f"initial_log_variance is {value} with {type(self.net).__name__}; expected AutoencoderKL")
        last = self.net.encoder.conv_out if self.net.quant_conv is None else self.net.quant_conv
        nn.init.constant_(last.bias[self.latent_channels :], value)

    def encode(self, images: Tensor) -> Tensor:
        """Images → latents, without randomness: before quantisation (VQ), or the posterior's mean (KL)."""
        if self.in_pixels:
            return images
        encoded = self.net.encode(self._to_network(images))
        return encoded.latents if isinstance(self.net, VQModel) else encoded.latent_dist.mode()

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
        encoded = self.net.encode(self._to_network(images))
        if isinstance(self.net, VQModel):
            latents, regulariser = self._quantise(encoded.latents)
            return self._decode_quantised(latents), regulariser
        moments = encoded.latent_dist.parameters
        # float32: the divergence is a sum of differences that nearly cancel, over all latent values.
        posterior = DiagonalGaussianDistribution(moments.float())
        latents = posterior.sample()
        return self._decode(latents.to(moments.dtype)), posterior.kl().mean() / latents[0].numel()

    def _decode(self, latents: Tensor) -> Tensor:
        if isinstance(self.net, VQModel):
            return self._decode_quantised(self._quantise(latents)[0])
        return self._to_image(self.net.decode(latents).sample)

    def _quantise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest codes (B, Cz, h, w) with a straight-through gradient, and the codebook and commitment term."""
        # In the codebook's own precision: bfloat16 cannot tell neighbouring codes apart.
        with torch.autocast(latents.device.type, enabled=False):
            codes, regulariser, _ = self.net.quantize(latents.to(self.net.quantize.embedding.weight.dtype))
        return codes, regulariser

    def _decode_quantised(self, codes: Tensor) -> Tensor:
        # Not net.decode(codes, force_not_quantize=True): with lookup_from_codebook that takes indices.
        spatial = codes if self.net.config["norm_type"] == "spatial" else None
        return self._to_image(self.net.decoder(self.net.post_quant_conv(codes), spatial))

    def _to_network(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C · n², H / n, W / n)."""
        return F.pixel_unshuffle(images, self.unshuffle) if self.unshuffle > 1 else images

    def _to_image(self, output: Tensor) -> Tensor:
        """The way back."""
        return F.pixel_shuffle(output, self.unshuffle) if self.unshuffle > 1 else output
