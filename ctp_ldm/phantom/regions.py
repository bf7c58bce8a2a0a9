"""Regions of a given volume, cut out of random fields."""

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.special import expit

from ctp_ldm.phantom.grid import Float, Grid, Mask

INFARCTABLE = 0.7  # voxels with less tissue than this are fluid or bone as far as infarcts go


def distance_to(grid: Grid, voxels: np.ndarray) -> Float:
    """Distance in mm to the nearest of `voxels` (N, 3)."""
    free = np.ones(grid.shape, bool)
    free[tuple(voxels.T)] = False
    return distance_transform_edt(free, sampling=grid.spacing).astype(np.float32)


def highest(field: Float, within: Mask, voxels: int) -> Mask:
    """The `voxels` voxels of `within` where `field` is highest."""
    values = np.where(within, field, -np.inf).ravel()
    mask = np.zeros(values.size, bool)
    mask[np.argpartition(values, -voxels)[-voxels:]] = True
    return mask.reshape(field.shape)


def lowest(field: Float, voxels: int) -> Mask:
    """The `voxels` voxels where `field`, which may be infinite, is lowest."""
    mask = np.zeros(field.size, bool)
    mask[np.argpartition(field.ravel(), voxels - 1)[:voxels]] = True
    return mask.reshape(field.shape)


def soft_edge(grid: Grid, mask: Mask, edge_mm: float) -> Float:
    """A mask with a sigmoid edge of a width in mm; exactly the mask where it exceeds 0.5."""
    if not mask.any():
        return np.zeros(mask.shape, np.float32)
    inside = distance_transform_edt(mask, sampling=grid.spacing)
    outside = distance_transform_edt(~mask, sampling=grid.spacing)
    return expit((inside - outside) / edge_mm).astype(np.float32)
