"""A case's grid and the way back to it."""

from dataclasses import dataclass
from typing import Any, Self

import nibabel as nib
import numpy as np
from scipy import ndimage

from ctp_ldm.forms import Forms

_RAS = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True)
class Geometry:
    """How one patient's volumes lie on the prepared in-plane grid, and how they lay in the input file.

    Volumes are read with their axes permuted and flipped to the RAS order closest to the file's (`to_ras`; an oblique
    affine stays oblique, nothing is rotated). Each slice is then resampled in-plane to `spacing` and cropped or padded
    to `size`. Slices are never resampled through-plane.

    affine: 4 × 4, voxel → mm, of the input file.
    shape: the file's three spatial dimensions.
    spacing: in-plane voxel size of the prepared grid, mm.
    size: (H, W) of the prepared grid; H along left–right, W along back–front.
    origin: RAS voxel coordinates (x, y) of the prepared grid's first voxel.
    forms: how the file's header says the affine; None where there is no file.
    """

    affine: tuple[tuple[float, ...], ...]
    shape: tuple[int, int, int]
    spacing: float
    size: tuple[int, int]
    origin: tuple[float, float]
    forms: Forms | None = None

    @classmethod
    def centred(
        cls,
        affine: np.ndarray,
        brain: np.ndarray,
        spacing: float,
        size: tuple[int, int],
        forms: Forms | None = None,
    ) -> Self:
        """The grid whose middle is the middle of the brain's in-plane bounding box.

        Args:
            affine: 4 × 4 of the file.
            brain: (X, Y, Z) bool in RAS order.
            spacing: target in-plane voxel size, mm.
            size: (H, W).
            forms: of the file's header.

        Raises:
            ValueError: the brain is empty, or larger than the grid in-plane.
        """
        if not brain.any():
            raise ValueError("the brain mask is empty")
        rows = tuple(tuple(float(v) for v in row) for row in np.asarray(affine))
        x, y, z = (int(brain.shape[int(_orientation(affine)[i, 0])]) for i in range(3))
        probe = cls(rows, (x, y, z), spacing, size, (0.0, 0.0))
        origin = []
        for axis, length in enumerate(size):
            occupied = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))
            low, high = int(occupied[0]), int(occupied[-1])
            ratio = probe._ratios[axis]
            if (high - low + 1) / ratio > length:
                raise ValueError(
                    f"the brain is {(high - low + 1) / ratio * spacing:.0f} mm wide along "
                    f"{'left–right' if axis == 0 else 'back–front'}, the grid only {length * spacing:.0f} mm "
                    f"({length} voxels of {spacing:g} mm): enlarge size or spacing"
                )
            first = (low + high) / 2 - (length - 1) / 2 * ratio
            # Without a change of spacing a whole-voxel origin keeps every value as it is.
            origin.append(float(round(first)) if np.isclose(ratio, 1.0) else first)
        return cls(rows, (x, y, z), spacing, size, (origin[0], origin[1]), forms)

    @property
    def voxel_sizes(self) -> tuple[float, float, float]:
        """Voxel sizes of the RAS-ordered input, mm."""
        sizes = nib.affines.voxel_sizes(np.asarray(self.affine))
        x, y, z = (float(sizes[i]) for i in self._axes)
        return x, y, z

    @property
    def ras_shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) of the RAS-ordered input; Z is the number of slices."""
        x, y, z = (self.shape[i] for i in self._axes)
        return x, y, z

    @property
    def slice_distance(self) -> float:
        """Distance of neighbouring slices' planes, mm: under a gantry's tilt less than the voxel's edge."""
        x, y, z = self.voxel_sizes
        distance = affine_ml(np.asarray(self.affine)) * 1000 / (x * y)
        return z if np.isclose(distance, z, rtol=1e-6, atol=0) else distance

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel of the prepared grid, mL."""
        return self.spacing**2 * self.slice_distance / 1000.0

    def to_grid(self, volume: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """(X, Y, Z) in RAS order → (Z, H, W) float32 on the prepared grid, linear interpolation.

        Where the grid is coarser than the input a Gaussian of σ = (ratio − 1) / 2 voxels goes before, against
        aliasing. Outside the input's field of view the result is `fill`.
        """
        values, ratios = np.asarray(volume, dtype=np.float32), self._ratios
        if max(ratios) > 1.0:
            values = ndimage.gaussian_filter(values, [max(0.0, (r - 1) / 2) for r in ratios] + [0.0], truncate=3.0)
        return np.ascontiguousarray(np.moveaxis(_resample(values, ratios, self.origin, self.size, fill), 2, 0))

    def mask_to_grid(self, mask: np.ndarray) -> np.ndarray:
        """(X, Y, Z) bool → (Z, H, W) bool: a voxel is inside where more than half of it is."""
        return self.to_grid(mask.astype(np.float32)) > 0.5

    def from_grid(self, slices: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """(Z, H, W) on the prepared grid → (X, Y, Z) float32 in the file's axes and shape, linear interpolation."""
        ratios = [1.0 / r for r in self._ratios]
        origin = [-o / r for o, r in zip(self.origin, self._ratios, strict=True)]
        back = _resample(np.moveaxis(slices, 0, 2), ratios, origin, self.ras_shape[:2], fill)
        file_order = nib.orientations.ornt_transform(_RAS, _orientation(self.affine))
        return np.asarray(nib.orientations.apply_orientation(back, file_order), dtype=np.float32)

    def to_plain(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return {
            "affine": [list(row) for row in self.affine],
            "shape": list(self.shape),
            "spacing": self.spacing,
            "size": list(self.size),
            "origin": list(self.origin),
            "forms": None if self.forms is None else self.forms.to_plain(),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Rebuild from `to_plain`."""
        x, y, z = (int(n) for n in plain["shape"])
        height, width = (int(n) for n in plain["size"])
        first, second = (float(v) for v in plain["origin"])
        rows = tuple(tuple(float(v) for v in row) for row in plain["affine"])
        forms = None if plain["forms"] is None else Forms.from_plain(plain["forms"])
        return cls(rows, (x, y, z), float(plain["spacing"]), (height, width), (first, second), forms)

    @property
    def _axes(self) -> list[int]:
        """The file's axis that runs along each of R, A and S."""
        return [int(axis) for axis in np.argsort(_orientation(self.affine)[:, 0])]

    @property
    def _ratios(self) -> list[float]:
        """Grid voxels over input voxels, in-plane; within a thousandth of 1 it is 1."""
        return [1.0 if abs(self.spacing / s - 1) < 1e-3 else self.spacing / s for s in self.voxel_sizes[:2]]


def affine_ml(affine: np.ndarray) -> float:
    """Volume of one voxel, mL, by the determinant of an affine in mm: edges alone say too much where they are oblique
    to one another (a gantry's tilt)."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def to_ras(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Permute and flip (X, Y, Z[, T]) to the closest RAS order; the affine follows."""
    orientation = _orientation(affine)
    moved = nib.orientations.apply_orientation(values, orientation)
    return moved, affine @ nib.orientations.inv_ornt_aff(orientation, values.shape[:3])


def _orientation(affine: object) -> np.ndarray:
    return np.asarray(nib.orientations.io_orientation(np.asarray(affine)))


def _resample(
    volume: np.ndarray,
    ratios: list[float],
    origin: tuple[float, float] | list[float],
    size: tuple[int, ...],
    fill: float,
) -> np.ndarray:
    """In-plane: output voxel i lies at input voxel origin + ratio · i. (X, Y, Z) → (*size, Z)."""
    # A margin of half a voxel: at the rim of the field of view interpolation takes the nearest value, not `fill`.
    padded = np.pad(volume.astype(np.float32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    result = np.full((*size, volume.shape[2]), fill, dtype=np.float32)
    coordinates = [origin[a] + ratios[a] * np.arange(size[a]) for a in range(2)]
    inside = [(c > -0.5) & (c < volume.shape[a] - 0.5) for a, c in enumerate(coordinates)]
    if not (inside[0].any() and inside[1].any()):
        return result
    starts = [int(np.flatnonzero(i)[0]) for i in inside]
    counts = [int(i.sum()) for i in inside]
    result[np.ix_(inside[0], inside[1])] = ndimage.affine_transform(
        padded,
        np.array([ratios[0], ratios[1], 1.0]),
        offset=[coordinates[0][starts[0]] + 1, coordinates[1][starts[1]] + 1, 0.0],
        output_shape=(counts[0], counts[1], volume.shape[2]),
        order=1,
    )
    return result
