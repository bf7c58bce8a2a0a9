"""How one patient is acquired: the grid, and when the frames of the series are taken."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from ctp_ldm.phantom.mix import SizeName

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
StorageOrder = Literal["LAS", "LPS", "RAS"]
Scan = Literal["usual", "truncated", "late"]


@dataclass(frozen=True)
class Size:
    """Ranges of an acquisition: in-plane voxels and their edge (mm), slices and their thickness (mm), frames, seconds.

    `coverage_mm` bounds the slab: the number of slices follows from it and the thickness, within `slices`.
    """

    plane: tuple[int, int]
    spacing_mm: tuple[float, float]
    slices: tuple[int, int]
    thickness_mm: tuple[float, ...]
    coverage_mm: tuple[float, float]
    frames: tuple[int, int]
    duration_s: tuple[float, float]


SIZES: dict[SizeName, Size] = {
    "tiny": Size((32, 40), (6.0, 6.2), (6, 6), (12.0, 13.0, 14.0), (72, 84), (18, 22), (45, 50)),
    "small": Size((96, 112), (1.95, 2.1), (12, 16), (5.0, 6.0, 7.0, 8.0), (75, 98), (30, 40), (50, 65)),
    "standard": Size((96, 112), (2.0, 2.0), (16, 18), (5.0,), (80, 90), (40, 60), (50, 65)),
    "full": Size((192, 224), (0.98, 1.04), (32, 32), (4.0,), (128, 128), (45, 60), (50, 70)),
}


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
        """Volume of one voxel in mL; edges that are oblique to one another (a gantry's tilt) enclose less."""
        edges, enclosed = float(np.prod(self.spacing)), abs(float(np.linalg.det(self.affine[:3, :3])))
        return (edges if np.isclose(edges, enclosed, rtol=1e-6, atol=0) else enclosed) / 1000

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


def draw_grid(rng: np.random.Generator, size: Size, head_position: np.ndarray, head_scale: np.ndarray) -> Grid:
    """A grid of a size's ranges, tilted, around a head."""
    edge = rng.uniform(*size.spacing_mm)
    thickness = float(rng.choice(size.thickness_mm))
    coverage = rng.uniform(*size.coverage_mm)
    slices = int(np.clip(round(coverage / thickness), *size.slices))
    # The slab starts at the base of the temporal lobes, lower when it is long; in-plane it is centred on the head.
    middle = slices * thickness / 2 - rng.uniform(12, 20) - max(0.0, (slices * thickness - 90) / 2)
    centre = head_position + head_scale * np.array([0, -17.5, 0]) + np.array([*rng.uniform(-2, 2, 2), middle])
    orders: tuple[StorageOrder, ...] = ("LAS", "LPS", "RAS")
    tilt = rng.normal(0, [4, 2, 2]).clip(-8, 8)
    order = orders[rng.integers(3)]
    return oblique_grid((*size.plane, slices), (edge, edge, thickness), tuple(tilt), order, centre)


def draw_frame_times(rng: np.random.Generator, size: Size, scan: Scan, arrival_s: float) -> tuple[float, ...]:
    """Every 1-2.5 s; truncated scans end 24-30 s after arrival, which is soon after the first pass."""
    frames = int(rng.integers(size.frames[0], size.frames[1] + 1))
    interval = round(rng.uniform(*size.duration_s) / frames, 2)
    if scan == "truncated":
        frames = min(frames, int(np.ceil((arrival_s + rng.uniform(24, 30)) / interval)) + 1)
    return tuple(round(i * interval, 2) for i in range(frames))
