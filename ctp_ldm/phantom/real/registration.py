"""Where a patient's brain lies in the template: an affine map, fitted to the inside of the skull and to the fluid."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from ctp_ldm.phantom.anatomy import COARSE, Atlas
from ctp_ldm.phantom.grid import Float, Grid

CAPPED_MM = 10.0  # distances beyond this say nothing about shape
FLUID_SMOOTHING_MM = 4.0
POINTS = 12_000
STEPS = np.repeat([0.05, 0.05, 5.0], 3)  # of angles in rad, log scales and shifts in mm that matter about as much
BOUNDS = np.repeat([0.8, 0.3, np.inf], 3)  # of the same, about the start
UNLIKE = 0.02  # cost of a head scaled by STEPS otherwise along one axis than along the others, as part of the fit's


def fit_template(atlas: Atlas, grid: Grid, cavity: Float, csf: Float) -> NDArray[np.float64]:
    """The affine (4, 4) from world coordinates in mm to the template's.

    Two starts are tried, the head straight in the world and straight in the slab: slabs are often laid along the brain.

    Args:
        atlas: the template.
        grid: of the patient's images.
        cavity: (X, Y, Z) signed distance in mm to the inside of the skull, positive outside.
        csf: (X, Y, Z) volume fraction of fluid.
    """
    near = np.flatnonzero(cavity < CAPPED_MM)
    chosen = near[np.linspace(0, near.size - 1, min(POINTS, near.size)).astype(int)]
    world = grid.world().reshape(3, -1)[:, chosen].astype(np.float64)
    distance = cavity.ravel()[chosen]
    fluid = grid.smooth(np.where(cavity < 0, csf, 0).astype(np.float32), FLUID_SMOOTHING_MM).ravel()[chosen]
    template_fluid = _template_fluid(atlas)
    middle = world[:, distance < 0].mean(axis=1)

    def difference(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        linear, offset = _parts(parameters)
        points = linear @ (world - middle[:, None]) + offset[:, None]
        index = (points - atlas.origin[:, None]) / COARSE
        found = (map_coordinates(t, index, order=1, mode="nearest") for t in (atlas.cavity, template_fluid))
        parts = [a - b for a, b in zip(_features(*found), _features(distance, fluid), strict=True)]
        # A thin slab hardly says how tall the head is.
        scale = parameters[3:6]
        parts.append(UNLIKE * chosen.size**0.5 * (scale - scale.mean()) / STEPS[3:6])
        return np.concatenate(parts)

    fits = []
    for turn in (np.zeros(3), _straight(grid)):
        start = _start(atlas, turn, world[:, distance < 0] - middle[:, None])
        fits.append(
            least_squares(
                difference, start, x_scale=STEPS, diff_step=1e-3, max_nfev=100, bounds=(start - BOUNDS, start + BOUNDS)
            )
        )
    linear, offset = _parts(min(fits, key=lambda fit: fit.cost).x)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, offset - linear @ middle
    return affine


def _features(cavity: Float, fluid: Float) -> tuple[Float, Float]:
    """Both from about -1 to 1."""
    return np.clip(cavity / CAPPED_MM, -1, 1), 2 * fluid


def _template_fluid(atlas: Atlas) -> Float:
    tissue = (
        atlas.grey[::COARSE, ::COARSE, ::COARSE] + atlas.white[::COARSE, ::COARSE, ::COARSE].astype(np.float32)
    ) / 255
    return gaussian_filter(np.where(atlas.cavity < 0, 1 - tissue, 0).clip(0, 1), FLUID_SMOOTHING_MM / COARSE)


def _parts(parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Linear part (3, 3) and offset (3,) from rotation vector, log scales and offset."""
    turn, scale, offset = parameters.reshape(3, 3)
    return np.diag(np.exp(scale)) @ Rotation.from_rotvec(turn).as_matrix(), offset


def _straight(grid: Grid) -> NDArray[np.float64]:
    """The rotation vector that turns the grid's axes onto the world's."""
    axes = grid.affine[:3, :3] / grid.spacing
    order = np.abs(axes).argmax(axis=0)
    signs = np.sign(axes[order, range(3)])
    upright = np.zeros((3, 3))
    upright[order, range(3)] = signs
    return Rotation.from_matrix(upright @ axes.T).as_rotvec()


def _start(atlas: Atlas, turn: NDArray[np.float64], inside: NDArray[np.float64]) -> NDArray[np.float64]:
    """Breadth, middle and vertex brought to the template's; the base may be cut off."""
    template = np.argwhere(atlas.cavity < 0).T * COARSE + atlas.origin[:, None]
    turned = Rotation.from_rotvec(turn).as_matrix() @ inside
    scale = np.ptp(template[0]) / np.ptp(turned[0])
    ours, theirs = (
        np.array([*(p[:2].max(axis=1) + p[:2].min(axis=1)) / 2, p[2].max()]) for p in (scale * turned, template)
    )
    return np.concatenate([turn, np.full(3, np.log(scale)), theirs - ours])
