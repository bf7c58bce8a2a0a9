"""The published augmentation: flips on both in-plane axes and a small affine, the same for all arrays of a slice."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctp_ldm.data.sampling import Draw

MASKS = ("brain", "lesion")
FLIP, AFFINE, ROTATION, SHIFT_MM, SCALE = 0.5, 0.9, np.pi / 16, 32.0, 0.001


@dataclass(frozen=True)
class PublishedAugmentation:
    """Flips p = 0.5 on each axis; affine p = 0.9 with rotation ±π/16, shift ±32 mm and scale ±0.001.

    Source: Lee et al. 2025 (arXiv 2510.09056); the published shift of 32 pixels was at 1 mm. How a slice moves is drawn
    from (seed, epoch, slice, showing), so a resumed run sees the same data. It is drawn in the loader and applied to
    whole batches on the model's device (`move`), in one interpolation for flips and affine.

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
