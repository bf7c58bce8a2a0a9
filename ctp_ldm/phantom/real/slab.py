"""Thin slices averaged to thick ones, as CT perfusion has them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctp_ldm.phantom.grid import Float, Grid

THIN = 0.75  # of the wanted thickness; slices above that are left as they are


@dataclass(frozen=True)
class Slab:
    """How slices, the third axis, are averaged to thicker ones; what is left over at the ends is cut off."""

    grid: Grid
    weights: Float
    """(slices, thick slices); columns sum to 1."""

    def __call__(self, image: NDArray[np.generic]) -> Float:
        """The averaged image, (X, Y, thick slices)."""
        return np.asarray(image, np.float32) @ self.weights


def thick_slices(grid: Grid, thickness_mm: float) -> Slab:
    """Averages slices much thinner than `thickness_mm` to slices of it; leaves others as they are."""
    count, native = grid.shape[2], grid.spacing[2]
    ratio = min(thickness_mm / native, count) if native < THIN * thickness_mm else 1.0
    thick = int(count / ratio + 1e-6)
    starts = (count - thick * ratio) / 2 + ratio * np.arange(thick)
    slices = np.arange(count)[:, None]
    overlap = np.minimum(starts + ratio, slices + 1) - np.maximum(starts, slices)
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (starts[0] + (ratio - 1) / 2)
    affine[:3, 2] *= ratio
    averaged = Grid((*grid.shape[:2], thick), (*grid.spacing[:2], native * ratio), affine)
    return Slab(averaged, (overlap.clip(0) / ratio).astype(np.float32))
