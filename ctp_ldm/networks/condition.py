"""How the source comes to the latent grid, where it is concatenated to the noisy latents."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers.configuration_utils import ConfigMixin, register_to_config

# Not only for the class below: diffusers looks in this module for the base class that says how its weights are loaded.
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from ctp_ldm.networks.build import CLASS_KEY, ConfigError, build_component, plain_config


class SourceMean(nn.Module):
    """The mean over factor × factor pixels, as published. What is smaller than a latent pixel is averaged away.

    Args:
        in_channels: Cs.
        factor: image pixels per latent pixel along each axis.
    """

    def __init__(self, in_channels: int, factor: int) -> None:
        super().__init__()
        self.out_channels, self.factor = in_channels, factor

    def forward(self, source: Tensor) -> Tensor:
        """(B, Cs, H, W) → (B, Cs, H / factor, W / factor)."""
        return F.avg_pool2d(source, self.factor)


class SpaceToDepth(nn.Module):
    """The factor × factor pixels of a latent pixel as so many channels: nothing is lost, and nothing is learnt.

    Args:
        in_channels: Cs.
        factor: image pixels per latent pixel along each axis.
    """

    def __init__(self, in_channels: int, factor: int) -> None:
        super().__init__()
        self.out_channels, self.factor = in_channels * factor**2, factor

    def forward(self, source: Tensor) -> Tensor:
        """(B, Cs, H, W) → (B, Cs · factor², H / factor, W / factor), the pixels of a channel next to one another."""
        return F.pixel_unshuffle(source, self.factor)


class ConditionEncoder(ModelMixin, ConfigMixin):
    """A small network that is trained with the denoiser: what it keeps of a latent pixel's pixels is learnt.

    Each block halves the grid: a convolution of 3 × 3 with stride 2, group normalisation, SiLU.

    Args:
        in_channels: Cs.
        block_out_channels: of each block; the last are those of the condition.
        norm_num_groups: of every normalisation.

    Raises:
        ValueError: no block, or channels that do not divide into the groups.
    """

    @register_to_config
    def __init__(self, in_channels: int, block_out_channels: Sequence[int], norm_num_groups: int = 8) -> None:
        super().__init__()
        if not block_out_channels or any(width < 1 or width % norm_num_groups for width in block_out_channels):
            raise ValueError(
                f"block_out_channels is {list(block_out_channels)}; expected a multiple of norm_num_groups "
                f"({norm_num_groups}) for each halving of the grid"
            )
        blocks: list[nn.Module] = []
        width = in_channels
        for following in block_out_channels:
            blocks += [
                nn.Conv2d(width, following, kernel_size=3, stride=2, padding=1),
                nn.GroupNorm(norm_num_groups, following),
                nn.SiLU(),
            ]
            width = following
        self.blocks = nn.Sequential(*blocks)
        self.out_channels, self.factor = width, 2 ** len(block_out_channels)

    def forward(self, source: Tensor) -> Tensor:
        """(B, Cs, H, W) → (B, block_out_channels[-1], H / factor, W / factor)."""
        encoded: Tensor = self.blocks(source)
        return encoded


Condition = SourceMean | SpaceToDepth | ConditionEncoder
CONDITIONS: dict[str, type] = {kind.__name__: kind for kind in (SourceMean, SpaceToDepth, ConditionEncoder)}
MEAN: Mapping[str, Any] = {CLASS_KEY: SourceMean.__name__}
"""What a config or record that names no condition means: there was no other before it could be chosen."""


def build_condition(config: Mapping[str, Any] | None, channels: int, factor: int) -> Condition:
    """The condition of a config.

    Args:
        config: `_class_name` of one of the three and its arguments, but those that data and autoencoder decide; None
            for the mean.
        channels: Cs.
        factor: of the autoencoder, image pixels per latent pixel along each axis.

    Raises:
        ConfigError: the config is wrong, or an encoder does not end at the latent grid.
    """
    given = MEAN if config is None else config
    fixed = {"in_channels": channels}
    if given.get(CLASS_KEY) != ConditionEncoder.__name__:
        fixed["factor"] = factor
    condition: Condition = build_component("condition", given, CONDITIONS, **fixed)
    if condition.factor != factor:
        raise ConfigError(
            f"condition.block_out_channels is {list(given['block_out_channels'])}, which makes the source "
            f"{condition.factor} times smaller; expected {_halvings(factor)}"
        )
    return condition


def describe_condition(condition: Condition) -> dict[str, Any]:
    """What a record says of it, under the key condition; of the mean nothing, as records always have."""
    if isinstance(condition, SourceMean):
        return {}
    if isinstance(condition, SpaceToDepth):
        return {"condition": {CLASS_KEY: SpaceToDepth.__name__}}
    return {"condition": plain_config(condition)}


def _halvings(factor: int) -> str:
    """What is needed where latents are so many times smaller than the image."""
    count = factor.bit_length() - 1
    if factor == 1 or factor != 2**count:
        others = f"{SourceMean.__name__} or {SpaceToDepth.__name__}"
        return f"{others} instead: the latent grid is {factor} times smaller, which no halvings make it"
    return f"length {count}, one number for each halving: the latent grid is {factor} times smaller"
