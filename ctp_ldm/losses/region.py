"""Errors of the decoded image over regions of the head."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ctp_ldm.losses.channels import channel_factors
from ctp_ldm.losses.masked import masked_mean
from ctp_ldm.losses.term import PixelTerm
from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample
from ctp_ldm.spec import DataSpec


class RegionError(PixelTerm):
    """Mean of d = |decoded − target|^power over the pixels of a region and all channels.

    Lee et al. 2025 (arXiv 2510.09056) sum over their two channels instead, so their weights are twice as large here:

        0.01 · Σ_picture Σ_channels d / Σ_brain     region image, weight 0.02, per brain
        0.02 · Σ_lesion Σ_channels d / Σ_lesion     region lesion, weight 0.04

    Per region, one voxel of a small lesion weighs as much as many of a large one, and the smaller the lesion, the less
    it costs to paint one where there is none; a fixed area weighs all voxels alike.

    Args:
        region: "image" (the whole picture), "brain", "lesion" (within the brain), "rim" (brain around the lesion) or
            "background" (brain outside the lesion).
        weight: factor in the total loss.
        power: 1 or 2.
        channel_weights: name of a target → relative weight, see `channel_factors`; {dwi: 0} is a term on the others.
        per: what the sum over the region is divided by: the pixels of the "region", those of the "brain", or an area
            in mm² for each slice of the batch.
        rim: in-plane distance in mm, between pixel centres, up to which the rim reaches.
        name: in logs, the region's by default.
        timesteps: see `PixelTerm`.

    Raises:
        ConfigError: an area or rim that is not above 0.
    """

    factors: Tensor
    disc: Tensor

    def __init__(
        self,
        region: Literal["image", "brain", "lesion", "rim", "background"],
        weight: float,
        power: Literal[1, 2] = 2,
        channel_weights: dict[str, float] | None = None,
        per: Literal["region", "brain"] | float = "region",
        rim: float = 10.0,
        name: str | None = None,
        timesteps: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(weight, name or region, timesteps)
        if not isinstance(per, str) and not per > 0:
            raise ConfigError(f"per of loss term {self.name!r} is {per}; expected region, brain or an area in mm²")
        if not rim > 0:
            raise ConfigError(f"rim of loss term {self.name!r} is {rim}; expected a distance in mm")
        self.region, self.power, self.channel_weights = region, power, channel_weights
        self.per, self.rim = per, rim

    def bind(self, spec: DataSpec) -> None:
        """Prepare channel factors and rim.

        Raises:
            ConfigError: channel weights without meaning, or a rim that is narrower than a pixel.
        """
        super().bind(spec)
        if self.region == "rim" and self.rim < spec.spacing:
            raise ConfigError(
                f"rim of loss term {self.name!r} is {self.rim} mm where pixels are {spec.spacing} mm; expected at "
                "least one pixel"
            )
        self.register_buffer("factors", channel_factors(self.channel_weights, spec.target_names), persistent=False)
        self.register_buffer("disc", disc(self.rim, spec.spacing), persistent=False)

    def forward(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
        error = (decoded.float() - target.float()).abs() ** self.power * self.factors
        region = self._mask(sample)
        if self.per == "region":
            return masked_mean(error, region)
        total = (error * region).sum() / error.shape[1]
        if self.per == "brain":
            pixels = sample["brain"].float().sum()
            # A batch without brain counts nothing: a whole picture per no brain would be beyond all measure.
            return total * (pixels > 0) / pixels.clamp(min=1.0)
        return total * self.spec.spacing**2 / (len(error) * self.per)

    def _mask(self, sample: Sample) -> Tensor:
        """(B, 1, H, W) in {0, 1}."""
        brain = sample["brain"].float()
        if self.region == "image":
            return torch.ones_like(brain)
        if self.region == "brain":
            return brain
        if "lesion" not in sample:
            raise ValueError(
                f"loss term {self.name!r} needs lesion masks, which not all training patients have; prepare them, set "
                "needs_lesion in the DataModule, or leave the term out"
            )
        lesion = brain * sample["lesion"].float()
        if self.region == "lesion":
            return lesion
        background = brain - lesion
        return background * self._near(lesion) if self.region == "rim" else background

    def _near(self, lesion: Tensor) -> Tensor:
        """Where any pixel of a lesion (B, 1, H, W) is within the disc."""
        covered = F.conv2d(lesion, self.disc, padding=self.disc.shape[-1] // 2)
        # Counts of pixels: halfway between 0 and 1 they are told apart in any precision.
        return (covered > 0.5).float()


def disc(radius: float, spacing: float) -> Tensor:
    """(1, 1, K, K) in {0, 1}: the pixels whose centre is at most `radius` mm from that of the middle one."""
    tolerance = 1e-6  # mm: the tenth pixel of 0.9 mm is within 9 mm, whatever the rounding
    reach = int((radius + tolerance) / spacing)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64) * spacing
    return (torch.hypot(offsets[:, None], offsets) <= radius + tolerance).float()[None, None]
