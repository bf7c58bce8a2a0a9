"""What is linear beside the networks as part of their own convolutions: source channels' mapper, latents' scale."""

from dataclasses import replace

import torch
from torch import Tensor

from ctp_ldm.interop.network import Network
from ctp_ldm.runs import CheckpointError

CONV_IN = "conv_in.weight"
QUANT, POST_QUANT = "quant_conv", "post_quant_conv"
CODES = "quantize.embedding.weight"


def fold(denoiser: Network, mapper: Tensor) -> Network:
    """The denoiser that does with the reduced source what this one does with the mapped one.

    A bias-free 1 × 1 convolution M commutes with zero padding, so it is exactly part of the convolution after it: the
    condition's columns of conv_in's weight become W · M.

    The way back of a folded denoiser that was trained further needs no inverse of M, which may not exist and would
    enlarge rounding: with `identity_mapper` before it, it is the same function.

    Args:
        denoiser: of latents and mapped source, concatenated in this order.
        mapper: M, (mapped channels, source channels, 1, 1).

    Raises:
        CheckpointError: M gives another number of channels than the denoiser takes.
    """
    latents = denoiser.out_channels
    weight = denoiser.state[CONV_IN]
    if mapper.shape != (weight.shape[1] - latents, mapper.shape[1], 1, 1):
        raise CheckpointError(
            f"the mapper's weight is {tuple(mapper.shape)}; expected ({weight.shape[1] - latents}, channels, 1, 1)"
        )
    condition = torch.einsum("okhw,kc->ochw", weight[:, latents:].double(), mapper[:, :, 0, 0].double())
    folded = torch.cat([weight[:, :latents], condition.to(weight.dtype)], dim=1)
    return replace(denoiser, in_channels=folded.shape[1], state={**denoiser.state, CONV_IN: folded})


def unfold(denoiser: Network, mapper: Tensor, conv_in: Tensor) -> Network | None:
    """The denoiser that `fold` made this one of, with not a bit changed; None where this is another, trained further.

    Args:
        denoiser: of latents and reduced source, concatenated.
        mapper: that was folded.
        conv_in: (C, latent channels + mapped channels, 3, 3), weight of the first convolution before it was.

    Raises:
        CheckpointError: mapper and convolution have never been those of one network.
    """
    before = replace(denoiser, in_channels=conv_in.shape[1], state={**denoiser.state, CONV_IN: conv_in})
    return before if torch.equal(fold(before, mapper).state[CONV_IN], denoiser.state[CONV_IN]) else None


def standardise(autoencoder: Network, mean: Tensor, deviation: Tensor) -> Network:
    """The autoencoder whose latents are (z − mean) / deviation where this one's are z.

    The 1 × 1 convolutions around the latents have no padding, so they take it in exactly: with quant_conv z = W·h + b,
    W / deviation and (b − mean) / deviation; with post_quant_conv W·z + b, W · deviation and b + W · mean. KL's second
    half is the logarithm of the variance, which loses 2 · log(deviation).

    A codebook is moved and scaled likewise. The nearest code stays the nearest under one factor for all channels only:
    with several, the distance that decides would be another one.

    Args:
        autoencoder: `VQModel` or `AutoencoderKL`.
        mean, deviation: (Cz,) of the latents.

    Raises:
        CheckpointError: no such convolutions, or a codebook with several deviations.
    """
    is_kl = autoencoder.config["_class_name"] == "AutoencoderKL"
    state = dict(autoencoder.state)
    if not {f"{QUANT}.weight", f"{POST_QUANT}.weight"} <= state.keys():
        raise CheckpointError(
            f"the autoencoder has no {QUANT} and {POST_QUANT} (use_quant_conv: false), which CompVis' always has and "
            "which would take in the latents' mean and deviation; export it as a diffusers folder instead"
        )
    if not is_kl and not bool((deviation == deviation[0]).all()):
        raise CheckpointError(
            f"the latents' deviations are {_numbers(deviation)}; CompVis' code has one scale factor for all channels, "
            "and in a VQModel scaled by several other codes would be the nearest. Export it as a diffusers folder "
            "instead; or train the latent model with scale_factor, one for all channels, or on an AutoencoderKL, whose "
            "convolutions take in any scale"
        )
    mean, deviation = mean.double(), deviation.double()
    shift, scale = mean, deviation
    if is_kl:
        shift, scale = torch.cat([mean, 2 * deviation.log()]), torch.cat([deviation, torch.ones_like(deviation)])
    after = state[f"{POST_QUANT}.weight"].double()
    changed = {
        f"{QUANT}.weight": state[f"{QUANT}.weight"].double() / scale.view(-1, 1, 1, 1),
        f"{QUANT}.bias": (state[f"{QUANT}.bias"].double() - shift) / scale,
        f"{POST_QUANT}.weight": after * deviation.view(1, -1, 1, 1),
        f"{POST_QUANT}.bias": state[f"{POST_QUANT}.bias"].double() + after[:, :, 0, 0] @ mean,
    }
    if not is_kl:
        changed[CODES] = (state[CODES].double() - mean) / deviation
    return replace(autoencoder, state=state | {k: v.to(state[k].dtype) for k, v in changed.items()})


def identity_mapper(channels: int) -> Tensor:
    """(channels, channels, 1, 1): the mapper of a denoiser that has none."""
    return torch.eye(channels).view(channels, channels, 1, 1)


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())
