"""What a post-training objective on decoded pixels is composed of."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample
from ctp_ldm.spec import DataSpec


class PixelTerm(nn.Module, ABC):
    """One term of a post-training objective. An own term is a subclass, named by `class_path` in the config.

    The module that owns the term binds it to the data once, before it is used.

    Args:
        weight: factor in the total loss, at least 0.
        name: in logs; several terms of a config need different names.
        timesteps: first and one past the last diffusion timestep at which the term acts, None for all; the module
            gives the term those samples of the batch only.

    Attributes:
        spec: of the data that the term is bound to.

    Raises:
        ConfigError: negative weight, or timesteps that are no range.
    """

    spec: DataSpec

    def __init__(self, weight: float, name: str, timesteps: tuple[int, int] | None = None) -> None:
        super().__init__()
        if not weight >= 0:
            raise ConfigError(f"the weight of loss term {name!r} is {weight}; expected at least 0")
        if timesteps is not None and not 0 <= timesteps[0] < timesteps[1]:
            raise ConfigError(f"timesteps of loss term {name!r} are {list(timesteps)}; expected 0 ≤ first < end")
        self.weight, self.name, self.timesteps = weight, name, timesteps

    def bind(self, spec: DataSpec) -> None:
        """Check and prepare what depends on the data's channels, spacing and size.

        Raises:
            ValueError: the term cannot be had for these data.
        """
        self.spec = spec

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

    def own_loss(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor | None:
        """What networks of the term's own, such as a discriminator, are trained by; None where it trains none.

        Args:
            decoded, target, sample: as in `forward`; no gradient reaches `decoded`.

        Returns:
            Scalar, finite for batches without lesion.
        """
        return None
