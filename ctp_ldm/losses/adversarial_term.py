"""A discriminator that learns, while it is trained against, to tell decoded images from real ones."""

from typing import Any

import torch
from monai.networks.nets import PatchDiscriminator
from torch import Tensor

from ctp_ldm.losses.adversarial import frozen, hinge_discriminator, hinge_generator
from ctp_ldm.losses.outside import with_real_outside
from ctp_ldm.losses.term import PixelTerm
from ctp_ldm.networks import build_component
from ctp_ldm.sample import Sample
from ctp_ldm.spec import DataSpec


class Adversarial(PixelTerm):
    """Hinge term of a patch discriminator (Lim & Ye 2017; Isola et al. 2017), which `own_loss` trains.

    `weight` is a plain factor. The adaptive balance of an autoencoder's training (`adaptive_weight`) compares gradients
    at the decoder's last layer, which is frozen here.

    Args:
        weight: factor in the total loss.
        discriminator: `_class_name` PatchDiscriminator and its arguments.
        conditional: whether the discriminator sees the source beside the image, and so whether they belong together
            (Isola et al. 2017).
        name: in logs.
        timesteps: see `PixelTerm`.
    """

    discriminator: PatchDiscriminator

    def __init__(
        self,
        weight: float,
        discriminator: dict[str, Any],
        conditional: bool = False,
        name: str = "adversarial",
        timesteps: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(weight, name, timesteps)
        self.config, self.conditional = discriminator, conditional

    def bind(self, spec: DataSpec) -> None:
        """Build the discriminator.

        Raises:
            ConfigError: of the discriminator.
        """
        super().bind(spec)
        # Instance norm: the statistics of batch norm would differ between processes.
        self.discriminator = build_component(
            f"{self.name}.discriminator",
            self.config,
            {"PatchDiscriminator": PatchDiscriminator},
            spatial_dims=2,
            in_channels=len(spec.target) + self.conditional * len(spec.source),
            norm="INSTANCE",
        )

    def forward(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
        with frozen(self.discriminator):
            return hinge_generator(self._scores(with_real_outside(decoded, target, sample), sample))

    def own_loss(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
        fake = with_real_outside(decoded.detach(), target, sample)
        return hinge_discriminator(self._scores(target, sample), self._scores(fake, sample))

    def _scores(self, images: Tensor, sample: Sample) -> Tensor:
        seen = torch.cat([images, sample["source"].to(images.dtype)], dim=1) if self.conditional else images
        scores: Tensor = self.discriminator(seen)[-1]
        return scores
