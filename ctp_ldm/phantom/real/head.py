"""A real patient's head as CT would show it, from diffusion MRI: its own tissue, the template's vessels and sides."""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, map_coordinates

from ctp_ldm.phantom.anatomy import (
    COARSE,
    SAMPLING_MM,
    SUBARACHNOID_MM,
    Atlas,
    Head,
    sample,
    shells,
    territories,
)
from ctp_ldm.phantom.grid import Float, Grid, Mask
from ctp_ldm.phantom.patient import Patient
from ctp_ldm.phantom.real.files import Mri
from ctp_ldm.phantom.real.registration import fit_template
from ctp_ldm.phantom.real.segmentation import fluid, segment

HULL_STEP_MM = 2.0  # hulls are smooth
CAVITY_REACH_MM, VAULT_REACH_MM = 8.0, 30.0
PRIOR_SMOOTHING_MM = 3.0
LEAST_PRIOR = 0.05
MOST_SNAP_MM, SNAP_DEPTH_MM = 6.0, 10.0


def build_real_head(atlas: Atlas, patient: Patient, mri: Mri) -> Head:
    """The head on the grid of the MRI.

    Skull and scalp are shells around the brain's hull. Vessels, territories and sides are the template's, by an affine
    fit to the brain and, near the skull, by depth under it.
    """
    grid = mri.grid
    cavity, vault = (_distance_to_hull(grid, mri.brain, reach) for reach in (CAVITY_REACH_MM, VAULT_REACH_MM))
    inside, bone, scalp = shells(patient, cavity, vault)
    affine = fit_template(atlas, grid, cavity, np.where(mri.brain, fluid(mri.adc), cavity < 0))

    artery, vein, grey, white = np.zeros((4, *grid.shape), np.float32)
    steps = [int(np.ceil(s / SAMPLING_MM)) for s in grid.spacing]
    offsets = list(product(*[(np.arange(n) + 0.5) / n - 0.5 for n in steps]))
    for offset in offsets:
        points = _snapped(atlas, _transformed(affine, grid.world(offset)), cavity)
        for fraction, volume in ((artery, atlas.artery), (vein, atlas.vein), (grey, atlas.grey), (white, atlas.white)):
            fraction += sample(atlas, volume, points) / len(offsets)
    grey, white = (grid.smooth(fraction, PRIOR_SMOOTHING_MM) + LEAST_PRIOR for fraction in (grey, white))
    tissue = segment(grid, mri.dwi, mri.adc, mri.brain, mri.lesion, grey / (grey + white))

    artery, vein = artery * inside, vein * inside * (1 - artery)
    parenchyma = inside * (1 - artery - vein)
    grey, white = tissue.grey * parenchyma, tissue.white * parenchyma
    points = _transformed(affine, grid.world())
    csf = np.clip(parenchyma - grey - white, 0, 1)
    return Head(grey, white, csf, bone, scalp, artery, vein, territories(atlas, points), points[0])


def _transformed(affine: NDArray[np.float64], world: Float) -> Float:
    matrix, shift = affine[:3, :3].astype(np.float32), affine[:3, 3].astype(np.float32)
    return np.tensordot(matrix, world, axes=1) + shift.reshape(3, 1, 1, 1)


def _distance_to_hull(grid: Grid, brain: Mask, reach: float) -> Float:
    """Signed distance in mm, (X, Y, Z), to a hull that bridges the brain's gaps up to 2 `reach` mm wide.

    Where the images end within the brain the hull goes on.
    """
    steps = [max(1, round(HULL_STEP_MM / s)) for s in grid.spacing]
    spacing = [s * n for s, n in zip(grid.spacing, steps, strict=True)]
    pads = [int(reach / s) + 2 for s in spacing]
    padded = np.pad(brain[:: steps[0], :: steps[1], :: steps[2]], [(p, p) for p in pads], mode="edge")
    grown = distance_transform_edt(~padded, sampling=spacing) <= reach
    closed = distance_transform_edt(binary_fill_holes(grown), sampling=spacing) > reach - SUBARACHNOID_MM
    distance = distance_transform_edt(~closed, sampling=spacing) - distance_transform_edt(closed, sampling=spacing)
    smooth = gaussian_filter(distance.astype(np.float32), [HULL_STEP_MM / s for s in spacing])
    index = np.indices(grid.shape, dtype=np.float32)
    for axis, (step, pad) in enumerate(zip(steps, pads, strict=True)):
        index[axis] = index[axis] / step + pad
    return map_coordinates(smooth, index, order=1, mode="nearest")


def _snapped(atlas: Atlas, points: Float, cavity: Float) -> Float:
    """Template points, (3, X, Y, Z), near its skull moved to where they lie as deep under it as in the patient.

    An affine fit leaves some millimetres there, which would put the sagittal sinus into the bone.
    """
    index = (points - atlas.origin.astype(np.float32).reshape(3, 1, 1, 1)) / COARSE

    def at_points(field: Float) -> Float:
        return map_coordinates(field, index, order=1, mode="nearest")

    depth, slopes = at_points(atlas.cavity), np.array(np.gradient(atlas.cavity, COARSE))
    move = (cavity - depth).clip(-MOST_SNAP_MM, MOST_SNAP_MM) * np.exp(-((depth / SNAP_DEPTH_MM) ** 2))
    return points + move * np.stack([at_points(slope) for slope in slopes])
