"""The grid on which one patient is acquired."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
StorageOrder = Literal["LAS", "LPS", "RAS"]


@dataclass(frozen=True)
class Grid:
    """Voxels of one acquisition.

    Attributes:
        shape: voxels along the three storage axes.
        spacing: voxel edge lengths in mm.
        affine: (4, 4), voxel index to RAS+ world coordinates in mm.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(np.prod(self.spacing)) / 1000

    def world(self, offset: tuple[float, float, float] = (0, 0, 0)) -> Float:
        """World coordinates in mm, (3, X, Y, Z), of the points `offset` (in voxels) away from the voxel centres."""
        index = [np.arange(n) + o for n, o in zip(self.shape, offset, strict=True)]
        columns = self.affine[:3, :3].T
        # An affine is a sum of one term per axis: broadcasting spares the (4, N) matrix product.
        x, y, z = (columns[a] * index[a][:, None] for a in range(3))
        points = x[:, None, None] + y[None, :, None] + z[None, None, :] + self.affine[:3, 3]
        return np.moveaxis(points, -1, 0).astype(np.float32)

    def smooth_noise(self, rng: np.random.Generator, sigma_mm: float) -> Float:
        """A Gaussian random field (X, Y, Z) with mean 0, SD 1 and a correlation length of `sigma_mm`."""
        white = rng.standard_normal(self.shape, dtype=np.float32)
        field = self.smooth(white, sigma_mm)
        return (field - field.mean()) / field.std()

    def smooth(self, image: Float, sigma_mm: float) -> Float:
        """Gaussian smoothing of an image (X, Y, Z) with `sigma_mm`, equal along all axes in mm."""
        return gaussian_filter(image, [sigma_mm / s for s in self.spacing])


def oblique_grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    tilt_degrees: tuple[float, float, float],
    order: StorageOrder,
    centre: NDArray[np.float64],
) -> Grid:
    """A grid whose middle lies at `centre` (world, mm), rotated by `tilt_degrees` about the world's x, y and z axes."""
    flips = [1.0 if letter in "RAS" else -1.0 for letter in order]
    axes = Rotation.from_euler("xyz", tilt_degrees, degrees=True).as_matrix() @ np.diag(np.multiply(flips, spacing))
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = centre - axes @ ((np.array(shape) - 1) / 2)
    return Grid(shape, spacing, affine)
