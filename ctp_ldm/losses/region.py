"""Errors of the decoded image over regions of the head."""

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from ctp_ldm.losses.masked import masked_mean
from ctp_ldm.sample import Sample


class PixelTerm(nn.Module, ABC):
    """One term of a post-training objective. An own term is a subclass, named by `class_path` in the config.

    Args:
        weight: factor in the total loss, at least 0.
        name: in logs; several terms of a config need different names.

    Raises:
        ValueError: negative weight.
    """

    def __init__(self, weight: float, name: str) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"the weight of loss term {name!r} is {weight}; expected at least 0")
        self.weight, self.name = weight, name

    @abstractmethod
    def forward(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
        """Unweighted term.

        Args:
            decoded: (B, Ct, H, W) decoded estimate of the clean image, in [−1, 1] up to overshoot, with gradient.
            target: (B, Ct, H, W) the real image in [−1, 1].
            sample: the batch, for masks and condition.

        Returns:
            Scalar, finite for batches without lesion.
        """


class RegionError(PixelTerm):
    """Mean of |decoded − target|^power over the pixels of a region and all channels.

    With power 2 these are the terms of Lee et al. 2025 (arXiv 2510.09056), there summed over the two channels instead
    of averaged: their weights 0.01 (image) and 0.02 (lesion) are 0.02 and 0.04 here.

    Args:
        region: "brain", "lesion" (within the brain) or "background" (brain outside the lesion).
        weight: factor in the total loss.
        power: 1 or 2.
        channel_weights: factor of each target channel, rescaled to mean 1; None for equal ones.
    """

    def __init__(
        self,
        region: Literal["brain", "lesion", "background"],
        weight: float,
        power: Literal[1, 2] = 2,
        channel_weights: list[float] | None = None,
    ) -> None:
        super().__init__(weight, name=region)
        if channel_weights is not None and (min(channel_weights) < 0 or sum(channel_weights) == 0):
            raise ValueError(f"channel_weights are {channel_weights}; expected non-negative numbers, not all 0")
        self.region, self.power, self.channel_weights = region, power, channel_weights

    def forward(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
        error = (decoded.float() - target.float()).abs() ** self.power
        if self.channel_weights is not None:
            error = error * normalised_weights(self.channel_weights, error)
        return masked_mean(error, self._mask(sample))

    def _mask(self, sample: Sample) -> Tensor:
        brain = sample["brain"]
        if self.region == "brain":
            return brain
        if "lesion" not in sample:
            raise ValueError(
                f"loss term {self.name!r} needs lesion masks, which not all training patients have; prepare them, set "
                "needs_lesion in the DataModule, or leave the term out"
            )
        return brain * sample["lesion"] if self.region == "lesion" else brain * (1 - sample["lesion"])


def normalised_weights(weights: list[float], like: Tensor) -> Tensor:
    """Channel weights with mean 1, shaped to multiply (B, C, H, W).

    Raises:
        ValueError: another number of weights than channels.
    """
    if len(weights) != like.shape[1]:
        raise ValueError(f"channel_weights has {len(weights)} values; expected {like.shape[1]}, one for each target")
    scaled = like.new_tensor(weights) * (len(weights) / sum(weights))
    return scaled.view(1, -1, 1, 1)
