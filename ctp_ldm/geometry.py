"""A case's grid and the way back to it."""

from dataclasses import dataclass
from typing import Any, Self

import nibabel as nib
import numpy as np

from ctp_ldm.forms import Forms
from ctp_ldm.resampling import HALF, Axis, MaskedMean, at_least_half

THICK_ENOUGH = 0.8
"""Slices of so much of the wanted thickness stay as they are. A slab of five quarters of a slice would have 0.77 of its
noise, and what is in it would be spread nearly twice as far."""
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True)
class Geometry:
    """How one patient's volumes lie on the prepared in-plane grid, and how they lay in the input file.

    Volumes are read with their axes permuted and flipped to the RAS order closest to the file's (`to_ras`; an oblique
    affine stays oblique, nothing is rotated). In-plane they are resampled to `spacing` and cropped or padded to `size`.
    Through-plane the file's slices are divided into `slices` slabs of equal thickness that cover them all and do not
    overlap, so that every mL counts once; as many slabs as slices leave these as they are. Slices are never made
    thinner.

    affine: 4 × 4, voxel → mm, of the input file.
    shape: the file's three spatial dimensions.
    spacing: in-plane voxel size of the prepared grid, mm.
    size: (H, W) of the prepared grid; H along left–right, W along back–front.
    origin: RAS voxel coordinates (x, y) of the prepared grid's first voxel.
    slices: slabs of the prepared grid, at most as many as the file has slices.
    forms: how the file's header says the affine; None where there is no file.
    """

    affine: tuple[tuple[float, ...], ...]
    shape: tuple[int, int, int]
    spacing: float
    size: tuple[int, int]
    origin: tuple[float, float]
    slices: int
    forms: Forms | None = None

    @classmethod
    def centred(
        cls,
        affine: np.ndarray,
        brain: np.ndarray,
        spacing: float,
        size: tuple[int, int],
        forms: Forms | None = None,
        thickness: float | None = None,
    ) -> Self:
        """The grid whose middle is the middle of the brain's in-plane bounding box.

        Of slices thinner than `thickness` slabs are made: so many that theirs comes closest to it.

        Args:
            affine: 4 × 4 of the file.
            brain: (X, Y, Z) bool in RAS order.
            spacing: target in-plane voxel size, mm.
            size: (H, W).
            forms: of the file's header.
            thickness: wanted, mm, along the slices' normal; None leaves slices as they are.

        Raises:
            ValueError: the brain is empty, or larger than the grid in-plane.
        """
        if not brain.any():
            raise ValueError("the brain mask is empty")
        rows = tuple(tuple(float(v) for v in row) for row in np.asarray(affine))
        x, y, z = (int(brain.shape[int(_orientation(affine)[i, 0])]) for i in range(3))
        probe = cls(rows, (x, y, z), spacing, size, (0.0, 0.0), 1)
        slices = slab_count(brain.shape[2], probe.file_slice_distance, thickness)
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
        return cls(rows, (x, y, z), spacing, size, (origin[0], origin[1]), slices, forms)

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
    def file_slice_distance(self) -> float:
        """Distance of the file's neighbouring slices' planes, mm: under a gantry's tilt less than the voxel's edge."""
        return slice_distance(np.asarray(self.affine))

    @property
    def slice_distance(self) -> float:
        """Thickness of the prepared grid's slices, along their normal, and the distance of their middles, mm."""
        return self.file_slice_distance * self.ras_shape[2] / self.slices

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel of the prepared grid, mL."""
        return self.spacing**2 * self.slice_distance / 1000.0

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """The prepared grid along Z, X and Y, in voxels of the RAS-ordered input."""
        x, y, z = self.ras_shape
        in_plane = zip(self.origin, self._ratios, self.size, (x, y), strict=True)
        first, second = (Axis(*along) for along in in_plane)
        return Axis((z / self.slices - 1) / 2, z / self.slices, self.slices, z), first, second

    def means(self, inside: np.ndarray | None = None) -> MaskedMean:
        """How values (Z, X, Y) in RAS order are brought to the grid.

        Where the grid is coarser than the input it takes means over its voxels, elsewhere it interpolates linearly;
        either within the mask `inside` (X, Y, Z) alone, where there is one.
        """
        return MaskedMean(self.axes, None if inside is None else np.moveaxis(inside, 2, 0))

    def to_grid(self, volume: np.ndarray, inside: np.ndarray | None = None, fill: float = 0.0) -> np.ndarray:
        """(X, Y, Z) in RAS order → (slices, H, W) float32 on the prepared grid, by `means`.

        Outside the input's field of view, and where no voxel is inside the mask, the result is `fill`.
        """
        return self.means(inside)(np.moveaxis(volume, 2, 0), fill)

    def mask_to_grid(self, mask: np.ndarray) -> np.ndarray:
        """(X, Y, Z) bool → (slices, H, W) bool: a voxel is inside where at least half of it is (`at_least_half`)."""
        return at_least_half(np.moveaxis(mask, 2, 0), self.axes)

    def from_grid(self, slices: np.ndarray, inside: np.ndarray | None = None, fill: float = 0.0) -> np.ndarray:
        """(slices, H, W) on the prepared grid → (X, Y, Z) float32 in the file's axes and shape.

        Linear between the grid's voxels, and beyond the middles of the first and last slab the nearest; means where the
        input is coarser than the grid.

        Args:
            slices: values.
            inside: (slices, H, W) bool, where they are valid; None: everywhere. Values outside have no say, and the
                result is `fill` where less than half of a voxel is inside.
            fill: also outside the grid.
        """
        means = MaskedMean([axis.back() for axis in self.axes], inside)
        back = means(slices, fill)
        if inside is not None:
            back[means.part < HALF] = fill
        file_order = nib.orientations.ornt_transform(_RAS, _orientation(self.affine))
        turned = nib.orientations.apply_orientation(np.moveaxis(back, 0, 2), file_order)
        return np.ascontiguousarray(turned, dtype=np.float32)

    def to_plain(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return {
            "affine": [list(row) for row in self.affine],
            "shape": list(self.shape),
            "spacing": self.spacing,
            "size": list(self.size),
            "origin": list(self.origin),
            "slices": self.slices,
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
        slices = int(plain["slices"])
        return cls(rows, (x, y, z), float(plain["spacing"]), (height, width), (first, second), slices, forms)

    @property
    def _axes(self) -> list[int]:
        """The file's axis that runs along each of R, A and S."""
        return [int(axis) for axis in np.argsort(_orientation(self.affine)[:, 0])]

    @property
    def _ratios(self) -> list[float]:
        """Grid voxels over input voxels, in-plane; within a thousandth of 1 it is 1."""
        return [1.0 if abs(self.spacing / s - 1) < 1e-3 else self.spacing / s for s in self.voxel_sizes[:2]]


def slab_count(slices: int, distance: float, thickness: float | None) -> int:
    """How many slabs slices become: so many that a slab's thickness comes closest to the wanted one.

    Args:
        slices: of the file.
        distance: of their planes, mm.
        thickness: wanted, mm; None for none.

    Returns:
        `slices` where they are as thick as wanted, or a fifth thinner at most; at least 1.
    """
    if thickness is None or distance >= THICK_ENOUGH * thickness * (1 - 1e-3):
        return slices
    exact = slices * distance / thickness
    # Of the two whole numbers around it, the one whose slabs are the less too thick or too thin, as a factor.
    fewer = max(1, int(exact))
    return min(slices, fewer if exact <= np.sqrt(fewer * (fewer + 1)) else fewer + 1)


def slice_distance(affine: np.ndarray) -> float:
    """Distance of neighbouring axial slices' planes, mm, of a file's affine."""
    x, y, z = (float(nib.affines.voxel_sizes(affine)[a]) for a in np.argsort(_orientation(affine)[:, 0]))
    distance = affine_ml(affine) * 1000 / (x * y)
    return z if np.isclose(distance, z, rtol=1e-6, atol=0) else distance


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
