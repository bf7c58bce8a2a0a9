"""What is known of latents before training: their scale, and how far they follow from the source alone."""

import torch
from torch import Tensor


class LatentMoments:
    """First and second moments of the reduced source and the latents, pixel by pixel, summed up in float64.

    Args:
        sources, latents: numbers of channels.
    """

    def __init__(self, sources: int, latents: int) -> None:
        self.sources = sources
        self.sums = torch.zeros(1 + sources + latents, 1 + sources + latents, dtype=torch.float64, device="cpu")
        """Of the outer product of (1, source, latents) with itself."""

    def add(self, source: Tensor, latents: Tensor) -> None:
        """Take in (B, Cs, h, w) and (B, Cz, h, w)."""
        both = torch.cat([torch.ones_like(source[:, :1]), source, latents], dim=1)
        values = both.double().cpu().transpose(0, 1).flatten(1)
        self.sums += values @ values.T

    def scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each latent channel."""
        count, mean = self.sums[0, 0], self.sums[0] / self.sums[0, 0]
        variance = (self.sums.diagonal() / count - mean**2).clamp(min=0)
        first = 1 + self.sources
        return mean[first:], variance[first:].sqrt()

    def source_map(self) -> tuple[Tensor, Tensor]:
        """Least squares: the linear map of a source pixel that comes closest to the standardised latents.

        Returns:
            Weight (Cz, Cs) and shift (Cz,).
        """
        first = 1 + self.sources
        gram, cross = self.sums[:first, :first], self.sums[:first, first:]
        # By eigenvalues: channels that say the same (phases before the bolus) must not blow each other up.
        solution = torch.linalg.pinv(gram, rtol=1e-6, hermitian=True) @ cross
        mean, deviation = self.scale()
        shift = (solution[0] - mean) / deviation
        return (solution[1:] / deviation).T, shift
