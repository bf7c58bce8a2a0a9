"""Where flow is low, and which part of it has infarcted.

Both are thresholds of smooth random fields, placed such that the volumes are the patient's. The core is ranked by its
own field, low flow *plus* a hidden tolerance of the tissue, and how much of the low-flow region it takes is left to
onset and collaterals: no threshold of blood flow gives it away.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.special import expit

from ctp_ldm.phantom.anatomy import Head
from ctp_ldm.phantom.grid import Float, Grid, Mask
from ctp_ldm.phantom.patient import Patient

INFARCTABLE = 0.7  # voxels with less tissue than this are fluid or bone as far as infarcts go
CORE_EDGE_MM = 1.0


class Lesion(NamedTuple):
    """Maps (X, Y, Z).

    `core` is the infarct, in [0, 1] with an edge of a few millimetres; the label is `core > 0.5`. `relative_flow` is
    blood flow relative to healthy, in [0, 1]. Both are defined in fluid too, where they mean nothing.
    """

    core: Float
    relative_flow: Float


def draw_lesion(rng: np.random.Generator, patient: Patient, head: Head) -> Lesion:
    """Draws the lesion of a patient; both maps are trivial for a lesion-free one."""
    grid = patient.grid
    if patient.kind == "lesion-free":
        return Lesion(np.zeros(grid.shape, np.float32), np.ones(grid.shape, np.float32))

    reach = head.side if patient.side == "right" else -head.side
    if patient.kind == "territorial":
        reach = np.minimum(head.territory[patient.territory], reach)
    at_risk = (head.tissue > INFARCTABLE) & (reach > 0)
    if patient.kind == "territorial":
        exposure = _territorial_exposure(rng, grid, at_risk, reach)
        least_flow, fraction = 0.05 + 0.25 * patient.collaterals, patient.infarcted_fraction
    else:
        exposure = _embolic_exposure(rng, grid, at_risk, patient.emboli)
        # A branch as thin as this leaves hardly a deficit at CTP's resolution.
        least_flow, fraction = 0.5, 0.7

    room = int(at_risk.sum())
    core_voxels = int(np.clip(round(patient.core_ml / grid.voxel_ml), 1, 0.85 * room))
    low_voxels = int(np.clip(core_voxels / fraction, core_voxels, 0.95 * room))

    severity = _severity(exposure, at_risk, reach, low_voxels)
    relative_flow = grid.smooth(1 - (1 - least_flow) * expit(4 * severity), 2.0)

    tolerance = 0.3 * grid.smooth_noise(rng, 6.0) + 0.1 * head.white
    vulnerability = grid.smooth(severity, 1.0) - tolerance
    core = _soft_edge(grid, _highest(vulnerability, at_risk, core_voxels))
    return Lesion(core, relative_flow.clip(0, 1))


def _territorial_exposure(rng: np.random.Generator, grid: Grid, at_risk: Mask, reach: Float) -> Float:
    """How deep a voxel lies in the shadow of the occlusion, in mm: near its middle, far from the neighbours' supply."""
    seeds = np.argwhere(at_risk)
    # Occlusions favour the territory's own interior over its border zones.
    weights = np.clip(reach[at_risk], 1, 15).astype(np.float64)
    seed = seeds[rng.choice(len(seeds), p=weights / weights.sum())]
    return np.minimum(reach, 12) - 0.6 * _distance_to(grid, seed[None]) + 5 * grid.smooth_noise(rng, 8.0)


def _embolic_exposure(rng: np.random.Generator, grid: Grid, at_risk: Mask, count: int) -> Float:
    seeds = np.argwhere(at_risk)
    chosen = seeds[rng.choice(len(seeds), size=count, replace=False)]
    return -_distance_to(grid, chosen) + 1.5 * grid.smooth_noise(rng, 3.0)


def _distance_to(grid: Grid, voxels: np.ndarray) -> Float:
    """Distance in mm to the nearest of `voxels` (N, 3)."""
    free = np.ones(grid.shape, bool)
    free[tuple(voxels.T)] = False
    return distance_transform_edt(free, sampling=grid.spacing).astype(np.float32)


def _severity(exposure: Float, at_risk: Mask, reach: Float, voxels: int) -> Float:
    """Exposure rescaled: 0 where the region of the most exposed `voxels` ends, 1 at its depth, negative outside.

    Within 12 mm beyond the border of the supply (`reach` in mm, negative there) it falls to -3, whatever the field.
    """
    ranked = np.sort(exposure[at_risk])
    edge, depth = ranked[-voxels], ranked[-max(1, voxels // 20)]
    severity = (exposure - edge) / max(depth - edge, 6.0)
    return np.minimum(severity, reach / 4).clip(-3, 1.5)


def _highest(field: Float, at_risk: Mask, voxels: int) -> Mask:
    """The `voxels` voxels at risk where `field` is highest."""
    values = np.where(at_risk, field, -np.inf).ravel()
    mask = np.zeros(values.size, bool)
    mask[np.argpartition(values, -voxels)[-voxels:]] = True
    return mask.reshape(field.shape)


def _soft_edge(grid: Grid, mask: Mask) -> Float:
    """A mask with a sigmoid edge in mm; exactly the mask where it exceeds 0.5."""
    inside = distance_transform_edt(mask, sampling=grid.spacing)
    outside = distance_transform_edt(~mask, sampling=grid.spacing)
    return expit((inside - outside) / CORE_EDGE_MM).astype(np.float32)
