"""Brain mask from CT, by a documented rule on Hounsfield units and connected components."""

import numpy as np
from scipy import ndimage

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.window import cut_off_at

SOFT_TISSUE_HU = (-5.0, 90.0)
BONE_HU = 150.0
MIXTURE_HU = -100.0
OPENING_MM = 4.0
PLAUSIBLE_ML = (60.0, 2300.0)
PLAUSIBLE_SLICE_CM2 = (25.0, 330.0)
RIM_MM = 6.0
"""Fluid between cortex and skull belongs to the brain of a CT, and is cut off in a stripped MRI."""


def ct_brain_mask(hu: np.ndarray, voxel_sizes: np.ndarray) -> np.ndarray:
    """Brain (with its ventricles and sulci) in a head CT, or in one whose skull was stripped before.

    Head with skull: what lies in a slice inside the bone ring (> 150 HU), has soft-tissue HU (−5…90), is opened by
    4 mm in-plane (which cuts the bridges to orbit and scalp) and is the largest connected component; grown back by
    the opening within the soft tissue, holes filled.
    Skull-stripped: everything that differs from the constant background, and is no mixture with one far below 0 as
    resampling makes it, largest component, holes filled.

    Args:
        hu: (X, Y, Z) Hounsfield units, the mean of some frames of a series.
        voxel_sizes: (3,) mm; Z is the through-plane axis.

    Returns:
        (X, Y, Z) bool.

    Raises:
        DataFault: no brain found, or one of implausible size (volume 60–2300 mL, largest slice 25–330 cm²); a head
            whose skull is cut off by a window.
    """
    background, share = _constant_background(hu)
    foreground = hu != background
    # A skull is more than a tenth of a head; the rim of a stripped brain may still hold some partial bone.
    if share > 0.2 and (hu > BONE_HU).sum() <= 0.05 * foreground.sum():
        _require_no_window(hu)
        mask = _fill_slices(_largest(foreground & ((hu > MIXTURE_HU) | (background > MIXTURE_HU))))
    else:
        mask = _inside_skull(hu, voxel_sizes)
    _require_plausible(mask, voxel_sizes)
    return mask


def foreground_mask(values: np.ndarray) -> np.ndarray:
    """Brain of a volume whose outside is (near) zero: above 5 % of the 99th percentile, largest component, filled.

    Args:
        values: (X, Y, Z), any unit.

    Raises:
        DataFault: nothing is above the background.
    """
    mask = values > 0.05 * float(np.percentile(values, 99))
    if not mask.any():
        raise DataFault("no foreground found: the volume is constant; give a brain mask")
    return _fill_slices(_largest(mask))


def without_rim(brain: np.ndarray, voxel_sizes: np.ndarray) -> np.ndarray:
    """The brain without what lies within 6 mm of its edge in-plane; all of it where nothing else is.

    Args:
        brain: (X, Y, Z) bool.
        voxel_sizes: (3,) mm.

    Returns:
        (X, Y, Z) bool.
    """
    inner = np.zeros_like(brain)
    for z in np.flatnonzero(brain.any(axis=(0, 1))):
        inner[:, :, z] = ndimage.distance_transform_edt(brain[:, :, z], sampling=voxel_sizes[:2]) > RIM_MM
    return inner if inner.any() else brain


def _constant_background(hu: np.ndarray) -> tuple[float, float]:
    """The value of most corner voxels, and the share of all voxels that have exactly it."""
    corners = hu[:: hu.shape[0] - 1, :: hu.shape[1] - 1].ravel()
    values, counts = np.unique(corners, return_counts=True)
    value = float(values[counts.argmax()])
    return value, float((hu == value).mean())


def _inside_skull(hu: np.ndarray, voxel_sizes: np.ndarray) -> np.ndarray:
    smooth = ndimage.gaussian_filter(hu, [1.0 / voxel_sizes[0], 1.0 / voxel_sizes[1], 0.0])
    bone = hu > BONE_HU
    # A ring of thin bone has gaps on coarse grids: close it before asking what is inside.
    ring = ndimage.binary_closing(np.pad(bone, ((8, 8), (8, 8), (0, 0))), _disc(6.0, voxel_sizes))[8:-8, 8:-8]
    inside = _fill_slices(ring) & ~bone
    soft = inside & (smooth > SOFT_TISSUE_HU[0]) & (smooth < SOFT_TISSUE_HU[1])
    disc = _disc(OPENING_MM, voxel_sizes)
    core = _largest(ndimage.binary_erosion(soft, disc))
    return _fill_slices(ndimage.binary_dilation(core, disc) & soft)


def _disc(radius_mm: float, voxel_sizes: np.ndarray) -> np.ndarray:
    """In-plane disc, at least the four neighbours: (·, ·, 1) bool."""
    reach = [max(1, round(radius_mm / s)) for s in voxel_sizes[:2]]
    x, y = np.ogrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    return np.asarray((x / reach[0]) ** 2 + (y / reach[1]) ** 2 <= 1.0)[..., None]


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _fill_slices(mask: np.ndarray) -> np.ndarray:
    return np.stack([ndimage.binary_fill_holes(mask[:, :, z]) for z in range(mask.shape[2])], axis=2)


def _require_no_window(hu: np.ndarray) -> None:
    top = cut_off_at(hu)
    if top is not None:
        share = float((hu[hu > hu.min()] >= top).mean())
        raise DataFault(
            f"everything above {top:.4g} HU is cut off ({share:.0%} of the head has the highest value), so that skull "
            f"and brain look alike; expected HU up to the skull's, above {BONE_HU:.0f}: export the CT without window, "
            "or give a brain mask"
        )


def _require_plausible(mask: np.ndarray, voxel_sizes: np.ndarray) -> None:
    volume = mask.sum() * float(np.prod(voxel_sizes)) / 1000.0
    largest = mask.sum(axis=(0, 1)).max() * voxel_sizes[0] * voxel_sizes[1] / 100.0
    for what, found, unit, (low, high) in (
        ("volume", volume, "mL", PLAUSIBLE_ML),
        ("largest slice", largest, "cm²", PLAUSIBLE_SLICE_CM2),
    ):
        if not low <= found <= high:
            raise DataFault(
                f"the brain mask made from the CT has an implausible {what}: {found:.0f} {unit}, expected "
                f"{low:.0f}–{high:.0f} {unit}; check that values are HU, or give a brain mask"
            )
