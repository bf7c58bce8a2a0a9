"""Places around a lesion where a synthetic image may invent one, and the parts that a mask falls into."""

import numpy as np
from scipy.ndimage import center_of_mass, distance_transform_edt, label

RIM_MM = 10.0


def rim(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """(Z, H, W) bool, voxels outside `mask` whose centre is at most 10 mm from the centre of one inside it.

    Distances are Euclidean and know the voxel size, so that thick slices do not shorten the rim. The rim of an empty
    mask is empty.

    Args:
        mask: (Z, H, W) bool.
        spacing: (Z, H, W) voxel size in mm.
    """
    if not mask.any():
        return np.zeros_like(mask)
    distance = distance_transform_edt(~mask, sampling=spacing)
    return ~mask & (distance <= RIM_MM)


def mirrored(mask: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """(Z, H, W) bool, `mask` reflected at the brain's mid-sagittal plane, less what falls off the grid.

    The plane is perpendicular to H, the left–right axis, at the centre of mass of the brain mask along it, one plane
    for the volume. Unlike the middle of the mask's extent, the centre of mass does not move with a single stray voxel.
    It is taken to the nearest half voxel, so that the reflection maps voxels onto voxels.

    Args:
        mask, brain: (Z, H, W) bool.
    """
    twice_the_plane = round(2 * float(center_of_mass(brain)[1]))
    origin = twice_the_plane - np.arange(mask.shape[1])
    on_grid = (origin >= 0) & (origin < mask.shape[1])
    result = np.zeros_like(mask)
    result[:, on_grid] = mask[:, origin[on_grid]]
    return result


def components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels 1…n of the 26-connected components of a (Z, H, W) mask, and n."""
    labels, count = label(mask, structure=np.ones((3, 3, 3)))
    return labels, int(count)
