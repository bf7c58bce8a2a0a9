"""Structural similarity of the decoded and the real image."""

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from ctp_ldm.losses.channels import channel_factors
from ctp_ldm.losses.masked import masked_mean
from ctp_ldm.losses.outside import with_real_outside
from ctp_ldm.losses.term import PixelTerm
from ctp_ldm.sample import Sample
from ctp_ldm.spec import DataSpec

SPAN = 2.0
"""Of encoded images, [−1, 1]."""


class StructuralSimilarity(PixelTerm):
    """1 − the mean of the SSIM map over brain pixels and channels (Wang et al. 2004; Gaussian 11 × 11, σ 1.5).

    Args:
        weight: factor in the total loss.
        channel_weights: name of a target → relative weight, see `channel_factors`.
        name: in logs.
        timesteps: see `PixelTerm`.
    """

    factors: Tensor

    def __init__(
        self,
        weight: float,
        channel_weights: dict[str, float] | None = None,
        name: str = "ssim",
        timesteps: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(weight, name, timesteps)
        self.channel_weights = channel_weights

    def bind(self, spec: DataSpec) -> None:
        """Prepare channel factors.

        Raises:
            ConfigError: channel weights without meaning.
        """
        super().bind(spec)
        self.register_buffer("factors", channel_factors(self.channel_weights, spec.target_names), persistent=False)

    def forward(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
        image = with_real_outside(decoded, target, sample)
        # Variances are differences of means of squares that nearly cancel: not in bfloat16, nor in a GPU's TF32.
        _, similarity = structural_similarity_index_measure(
            image.double(), target.double(), data_range=SPAN, return_full_image=True
        )
        return masked_mean((1 - similarity) * self.factors, sample["brain"])
