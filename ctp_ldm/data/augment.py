"""The published augmentation, flips on both in-plane axes and a small affine, and its flips alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctp_ldm.data.sampling import Draw

MASKS = ("brain", "lesion")
FLIP, AFFINE, ROTATION, SHIFT_MM, SCALE = 0.5, 0.9, np.pi / 16, 32.0, 0.001
FLIPPED_AXES: Mapping[bool | str, int] = {False: 0, "mirror": 1, "flips": 2}
"""data.augment → how many in-plane axes are flipped, and nothing else done: left–right first, then back–front."""


@dataclass(frozen=True)
class PublishedAugmentation:
    """Flips p = 0.5 on each axis; affine p = 0.9 with rotation ±π/16, shift ±32 mm and scale ±0.001.

    Source: Lee et al. 2025 (arXiv 2510.09056); the published shift of 32 pixels was at 1 mm. How a slice moves is drawn
    from (seed, epoch, slice, showing), so a resumed run sees the same data, on any number of workers. Flips and affine
    are one interpolation: of whole batches on a GPU, of each slice in the loader where the model is on the CPU.

    spacing: in-plane voxel size, mm.
    size: (H, W) voxels.
    seed: of the draws.
    """

    spacing: float
    size: tuple[int, int]
    seed: int = 0

    def __call__(self, draw: Draw) -> Tensor:
        """(2, 3) float32: where each voxel of the moved slice comes from, in `affine_grid`'s coordinates."""
        rng = np.random.default_rng((self.seed, *draw))
        flips = np.where(rng.random(2) < FLIP, -1.0, 1.0)
        moved = rng.random() < AFFINE
        angle, *shift = rng.uniform(-1, 1, 3) * [ROTATION, SHIFT_MM / self.spacing, SHIFT_MM / self.spacing]
        scale = 1 + rng.uniform(-SCALE, SCALE, 2)
        if not moved:
            return self._normalised(np.diag(flips), np.zeros(2))
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = np.array([[cos, -sin], [sin, cos]])
        return self._normalised(flips[:, None] * rotation * scale, flips * (rotation @ shift))

    def _normalised(self, matrix: np.ndarray, shift: np.ndarray) -> Tensor:
        """From voxels (H, W) around the middle to `affine_grid`, where W comes first and −1…1 spans the picture."""
        size = np.array(self.size)
        theta = np.column_stack([matrix * size / size[:, None], 2 * shift / size])
        return torch.from_numpy(theta[::-1][:, [1, 0, 2]].astype(np.float32))


@dataclass(frozen=True)
class Flips:
    """The published flips without the affine, drawn alike: a showing is flipped as `PublishedAugmentation` flips it.

    axes: 0, 1 (left–right only) or 2.
    seed: of the draws.
    """

    axes: int
    seed: int = 0

    def __call__(self, draw: Draw) -> int:
        """Number of a flip, for `flip`."""
        drawn = np.random.default_rng((self.seed, *draw)).random(2) < FLIP
        return sum(1 << axis for axis in range(self.axes) if drawn[axis])

    @property
    def numbers(self) -> range:
        """All that can be drawn."""
        return range(1 << self.axes)


def flip(arrays: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """Reverse arrays, exactly.

    Args:
        arrays: name → (…, H, W) of any type.
        number: 0 for none, 1 along H, 2 along W, 3 along both.
    """
    axes = [axis for bit, axis in enumerate((-2, -1)) if number >> bit & 1]
    return {name: values.flip(axes) for name, values in arrays.items()} if axes else arrays


def move(arrays: dict[str, Tensor], theta: Tensor) -> dict[str, Tensor]:
    """Move the slices of a batch, all arrays of a slice alike.

    Args:
        arrays: name → (B, C, H, W) float.
        theta: (B, 2, 3), as `PublishedAugmentation` draws them.

    Returns:
        The arrays, interpolated linearly; a voxel is in a moved mask where more than half of it is. The rim of a slice
        is background in every channel: repeating it is what lies beyond.
    """
    shape = next(iter(arrays.values())).shape
    grid = F.affine_grid(theta, [shape[0], 1, *shape[2:]], align_corners=False)
    moved = {
        name: F.grid_sample(values, grid, padding_mode="border", align_corners=False) for name, values in arrays.items()
    }
    return {name: (values > 0.5).float() if name in MASKS else values for name, values in moved.items()}


def move_slice(arrays: dict[str, Tensor], theta: Tensor, extent: np.ndarray) -> dict[str, Tensor]:
    """Move one slice as `move` does.

    Only what the head can reach is interpolated: around it every channel is constant, and that is half a picture.

    Args:
        arrays: name → (C, H, W).
        theta: (2, 3), as `PublishedAugmentation` draws it.
        extent: (H, W) bool, outside which all channels are background: the brain, and that of neighbours in the source.

    Returns:
        name → (C, H, W) float32.
    """
    together = torch.cat([values.float() for values in arrays.values()])
    size = np.array(extent.shape)
    start, length = _reached(extent, theta.numpy().astype(float))
    # The same map in the coordinates of the part, W first.
    share, centre = length / size, (2 * start + length) / size - 1
    matrix, shift = theta[:, :2].numpy(), theta[:, 2].numpy()
    part = np.column_stack([matrix * share[::-1], matrix @ centre[::-1] + shift]).astype(np.float32)
    grid = F.affine_grid(torch.from_numpy(part)[None], [1, 1, *map(int, length)], align_corners=False)
    whole = together[:, :1, :1].repeat(1, *map(int, size))
    rows, columns = (slice(a, a + n) for a, n in zip(start, length, strict=True))
    whole[:, rows, columns] = F.grid_sample(together[None], grid, padding_mode="border", align_corners=False)[0]
    parts = whole.split([len(values) for values in arrays.values()])
    return {n: (v > 0.5).float() if n in MASKS else v for n, v in zip(arrays, parts, strict=True)}


def _reached(extent: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row and column, and numbers of rows and columns, to which what lies in `extent` (H, W) can move."""
    size = np.array(extent.shape)
    occupied = [np.flatnonzero(extent.any(axis=1 - axis)) for axis in (0, 1)]
    if any(not len(o) or o[0] == 0 or o[-1] == n - 1 for o, n in zip(occupied, size, strict=True)):
        return 0 * size, size  # at the rim what lies beyond is content repeated, not background
    ends = [(o[0] - 1, o[-1] + 1) for o in occupied]
    corners = (2 * np.array([[y, x] for y in ends[0] for x in ends[1]]) + 1) / size - 1
    back = np.linalg.solve(theta[:, :2], corners[:, ::-1].T - theta[:, 2:])[::-1].T
    voxels = ((back + 1) * size - 1) / 2
    low, high = (np.clip(v, 0, size - 1).astype(int) for v in (np.floor(voxels.min(0)), np.ceil(voxels.max(0))))
    return low, high - low + 1
