"""The 1 × 1 convolution before the denoiser as part of the denoiser's first convolution."""

from dataclasses import replace

import torch
from torch import Tensor

from ctp_ldm.interop.network import Network
from ctp_ldm.runs import CheckpointError

CONV_IN = "conv_in.weight"


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


def identity_mapper(channels: int) -> Tensor:
    """(channels, channels, 1, 1): the mapper of a denoiser that has none."""
    return torch.eye(channels).view(channels, channels, 1, 1)
