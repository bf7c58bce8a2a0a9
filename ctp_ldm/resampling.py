"""Masked means over the voxels of another grid: what lies outside the mask has no say, whatever its value."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

FWHM_PER_SD = 2.0 * np.sqrt(2.0 * np.log(2.0))
HALF = 0.5 - 1e-5
"""Half of a voxel, but for rounding."""


@dataclass(frozen=True)
class Axis:
    """Where output voxels lie along one axis: the centre of the i-th at `origin + ratio · i`, in input voxels.

    An output voxel that is larger than the input's is a box of its own size, and each input voxel counts by the length
    of it inside that box. One that is not is a box of one input voxel, which is linear interpolation; where its centre
    lies beyond the first or last input voxel's, it takes the nearest one.

    origin: centre of the first output voxel.
    ratio: edge of an output over that of an input voxel.
    count, length: output and input voxels.
    """

    origin: float
    ratio: float
    count: int
    length: int

    @property
    def averages(self) -> bool:
        """Whether several input voxels make one, rather than being interpolated."""
        return self.ratio > 1.0

    def weights(self) -> sparse.csr_array:
        """(count, length) float32: by how much each input voxel counts.

        A row sums to the part of the output voxel inside the input's field of view; to 1 or 0 where it interpolates.
        """
        width = max(self.ratio, 1.0)
        centres = self.origin + self.ratio * np.arange(self.count)
        low, high = centres - width / 2, centres + width / 2
        cells = np.floor(low + 0.5)[:, None] + np.arange(int(np.ceil(width)) + 1)
        covered = np.minimum(high[:, None], cells + 0.5) - np.maximum(low[:, None], cells - 0.5)
        # Shorter than any scanner means: rounding, which would make whole numbers of voxels inexact.
        kept = (covered > 1e-6) & (cells >= 0) & (cells < self.length)
        if not self.averages:
            kept &= ((centres > -0.5) & (centres < self.length - 0.5))[:, None]
        covered = np.where(kept, covered, 0.0)
        whole = np.full(self.count, width) if self.averages else covered.sum(axis=1)
        rows = np.broadcast_to(np.arange(self.count)[:, None], cells.shape)
        values = (covered / np.maximum(whole, 1e-6)[:, None])[kept].astype(np.float32)
        return sparse.csr_array((values, (rows[kept], cells[kept].astype(int))), shape=(self.count, self.length))

    def moved(self, voxels: float) -> "Axis":
        """The same output voxels, further along the axis by so many input voxels."""
        return Axis(self.origin + voxels, self.ratio, self.count, self.length)

    def back(self) -> "Axis":
        """The way back: output and input change places."""
        return Axis(-self.origin / self.ratio, 1.0 / self.ratio, self.length, self.count)

    def variance(self) -> float:
        """Of the place that an output value comes from, in input voxels²: mean over voxels inside the field of view.

        An input voxel is itself the mean over a box of variance 1/12; the weights of several add theirs.
        """
        weights = self.weights().astype(np.float64)
        place = np.arange(self.length, dtype=np.float64)
        inside = weights.sum(axis=1) > 1 - 1e-4
        if not inside.any():
            return 1 / 12
        spread = weights @ place**2 - (weights @ place) ** 2
        return float(np.clip(spread[inside], 0, None).mean()) + 1 / 12


class MaskedMean:
    """Means over the part of each output voxel that is inside a mask, slices first.

    The weight of an input voxel is the product of its weights along the axes; means are sum(w · v) / sum(w) over
    the mask's voxels. Slabs are made one by one: besides input and output there are the slices of one slab in memory.

    Args:
        axes: along (Z, X, Y).
        inside: (Z, X, Y) bool; None: everywhere.

    Attributes:
        part: (Zo, Xo, Yo) float32, the part of each output voxel that lies inside.
    """

    def __init__(self, axes: Sequence[Axis], inside: np.ndarray | None = None) -> None:
        self._weights = [axis.weights() for axis in axes]
        self._inside = inside
        self.part = self._of_mask(self._weights)

    def __call__(self, planes: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """(Z, X, Y) → (Zo, Xo, Yo) float32; `fill` where no voxel of the mask is."""
        sums = _project(planes, self._inside, self._weights)
        np.divide(sums, self.part, out=sums, where=self.part > 0)
        sums[self.part <= 0] = fill
        return sums

    def white_noise(self) -> np.ndarray:
        """(Zo, Xo, Yo) float32: the SD that independent noise of SD 1 is left with, sqrt(sum w²) / sum w."""
        squares = self._of_mask([weights.power(2) for weights in self._weights])
        return np.sqrt(squares) / np.maximum(self.part, 1e-6)

    def _of_mask(self, weights: Sequence[sparse.csr_array]) -> np.ndarray:
        if self._inside is not None:
            return _project(self._inside, None, weights)
        slabs, rows, columns = (np.asarray(w.sum(axis=1), dtype=np.float32) for w in weights)
        return np.asarray(slabs[:, None, None] * rows[:, None] * columns)


def at_least_half(mask: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """(Z, X, Y) bool → (Zo, Xo, Yo) bool: at least half of the voxel is inside the mask.

    Edges that cut a voxel exactly in half are common (every second one at a ratio of 2). Were all of them kept, or
    none, masks would grow or shrink. So the grid is moved by a thousandth of a voxel, which settles them to one
    side: a mask gains at one face what it loses at the other.
    """
    # Sums of few of these, with either sign, are never 0: an edge that is cut along two axes is settled as well.
    nudged = [axis.moved(voxels) for axis, voxels in zip(axes, (1.0e-3, 0.71e-3, 0.43e-3), strict=True)]
    return np.asarray(MaskedMean(nudged, mask).part >= HALF)


def _project(planes: np.ndarray, inside: np.ndarray | None, weights: Sequence[sparse.csr_array]) -> np.ndarray:
    """sum(w · v) over the mask: (Z, X, Y) → (Zo, Xo, Yo) float32."""
    slabs, rows, columns = weights
    result = np.zeros((slabs.shape[0], rows.shape[0], columns.shape[0]), dtype=np.float32)
    for slab, (start, stop) in enumerate(pairwise(slabs.indptr)):
        if stop == start:
            continue
        some = slice(int(slabs.indices[start]), int(slabs.indices[stop - 1]) + 1)
        if inside is not None and not inside[some].any():
            continue
        # Chosen, not multiplied by the mask: what is not a number outside it would stay so.
        chosen = planes[some] if inside is None else np.where(inside[some], planes[some], np.float32(0))
        plane = np.tensordot(slabs.data[start:stop], chosen.astype(np.float32, copy=False), axes=1)
        result[slab] = (columns @ np.ascontiguousarray((rows @ plane).T)).T
    return result
