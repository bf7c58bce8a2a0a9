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
from ctp_ldm.phantom.regions import distance_to, highest, soft_edge

INFARCTABLE = 0.7  # voxels with less tissue than this are fluid or bone as far as infarcts go
CORE_EDGE_MM = 1.0
STEEPNESS = 6.0  # of flow over the deficit's border
LUXURY = 0.15  # how far flow in a reperfused core exceeds healthy flow


class Lesion(NamedTuple):
    """Maps (X, Y, Z), defined in fluid too, where they mean nothing.

    core: the infarct that the MRI will show, in [0, 1] with an edge of a few millimetres; the label is `core > 0.5`.
    relative_flow: blood flow at the time of the CT relative to healthy; above 1 in some reperfused cores.
    occluded_flow: the same while the vessel was occluded, which is what the tissue suffered.
    """

    core: Float
    relative_flow: Float
    occluded_flow: Float


def draw_lesion(rng: np.random.Generator, patient: Patient, head: Head) -> Lesion:
    """Draws the lesion of a patient; the maps are trivial for a lesion-free one."""
    grid = patient.grid
    if patient.kind == "lesion-free":
        flow = np.ones(grid.shape, np.float32)
        return Lesion(np.zeros(grid.shape, np.float32), flow, flow)

    reach = head.side if patient.side == "right" else -head.side
    if patient.kind in ("territorial", "hypoperfusion"):
        reach = np.minimum(head.territory[patient.territory], reach)
    at_risk = (head.tissue > INFARCTABLE) & (reach > 0)
    if patient.kind == "lacune":
        at_risk &= _deep(head, grid)
    if at_risk.sum() < patient.emboli:  # the slab misses the territory: elsewhere on that side, then
        reach = head.side if patient.side == "right" else -head.side
        at_risk = (head.tissue > INFARCTABLE) & (reach > 0)
    exposure = exposed(rng, patient, _seeds(rng, patient, at_risk, reach), reach)
    room = int(at_risk.sum())
    core_voxels = int(np.clip(round(patient.core_ml / grid.voxel_ml), patient.core_ml > 0, 0.85 * room))
    low_voxels = int(np.clip(round(patient.low_flow_ml / grid.voxel_ml), max(1, core_voxels), 0.95 * room))

    severity = severity_of(exposure, at_risk, reach, low_voxels)
    occluded = residual_flow(patient, severity)
    tolerance = 0.3 * grid.smooth_noise(rng, 6.0) + 0.1 * head.white
    vulnerability = grid.smooth(severity, 1.0) - tolerance
    core = np.zeros(grid.shape, np.float32)
    if core_voxels:
        core = soft_edge(grid, highest(vulnerability, at_risk, core_voxels), CORE_EDGE_MM)
    return lesion_at_ct(patient, core, occluded)


def lesion_at_ct(patient: Patient, core: Float, occluded: Float) -> Lesion:
    """The lesion with the flow that is there at the time of the CT: much of the healthy one after reperfusion."""
    flow = 1 - 0.1 * (1 - occluded) + LUXURY * core if patient.reperfused else occluded
    return Lesion(core, flow.astype(np.float32), occluded)


def _deep(head: Head, grid: Grid) -> Mask:
    """Basal ganglia, thalamus and the white matter around them: where perforating arteries end."""
    return distance_transform_edt(head.bone < 0.3, sampling=grid.spacing) > 25


def _seeds(rng: np.random.Generator, patient: Patient, at_risk: Mask, reach: Float) -> np.ndarray:
    """Voxels (N, 3) in the middle of the deficit: one, or one for each embolus."""
    seeds = np.argwhere(at_risk)
    if patient.kind in ("territorial", "hypoperfusion"):
        # Occlusions favour the territory's own interior over its border zones.
        weights = np.clip(reach[at_risk], 1, 15).astype(np.float64)
        return seeds[rng.choice(len(seeds), p=weights / weights.sum())][None]
    return seeds[rng.choice(len(seeds), size=patient.emboli, replace=False)]


def exposed(rng: np.random.Generator, patient: Patient, seeds: np.ndarray, reach: Float) -> Float:
    """How deep a voxel lies in the shadow of the occlusion, in mm: near its middle, the voxels `seeds` (N, 3).

    Behind a large artery, depth in its territory (`reach` in mm) counts too: far from the neighbours' supply.
    """
    grid = patient.grid
    if patient.kind in ("territorial", "hypoperfusion"):
        return np.minimum(reach, 12) - 0.6 * distance_to(grid, seeds) + 5 * grid.smooth_noise(rng, 8.0)
    return -distance_to(grid, seeds) + 1.5 * grid.smooth_noise(rng, 3.0)


def residual_flow(patient: Patient, severity: Float) -> Float:
    """Flow relative to healthy while the vessel is occluded."""
    return patient.grid.smooth(1 - (1 - patient.least_flow) * expit(STEEPNESS * severity), 2.0).clip(0, 1)


def severity_of(exposure: Float, at_risk: Mask, reach: Float, voxels: int) -> Float:
    """Exposure rescaled: 0 where the region of the most exposed `voxels` ends, 1 at its depth, negative outside.

    Within 12 mm beyond the border of the supply (`reach` in mm, negative there) it falls to -3, whatever the field.
    """
    ranked = np.sort(exposure[at_risk])
    edge, depth = ranked[-voxels], ranked[-max(1, voxels // 20)]
    severity = (exposure - edge) / max(depth - edge, 6.0)
    return np.minimum(severity, reach / 4).clip(-3, 1.5)
