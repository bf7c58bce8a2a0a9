"""Where flow is low, and which part of it has infarcted: the outcome of a race between time and what is left of flow.

An occlusion leaves the most exposed part of its territory with little blood: `EDGE_FLOW` of healthy flow where the
deficit ends, and in its depth the least flow, which collaterals set. Tissue is dead where

    flow + tolerance < lethal flow (minutes without enough blood)

The lethal flow rises with time (`lethal_flow`), until the vessel opens or the MRI is made; tolerance is a
hidden smooth field, so that flow does not give the infarct away. Behind a large artery the volume of the infarct is
what comes of this. Where it is known beforehand (branches and perforators, infarcts of real patients) flow is made to
fit: at the border of the infarct it is the lethal one.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from ctp_ldm.phantom.anatomy import Head
from ctp_ldm.phantom.grid import Float, Grid, Mask
from ctp_ldm.phantom.patient import Patient
from ctp_ldm.phantom.regions import INFARCTABLE, distance_to, lowest, soft_edge

EDGE_FLOW = 0.62
"""Relative flow where a perfusion deficit ends; a guess, like all below that name no source."""
LETHAL_FLOW, LETHAL_MINUTES = 0.311, 160.0
"""How the flow that kills rises with time. In monkeys 10–12 mL/100 g/min of about 50 kill within 2–3 hours and 17–18
where the vessel stays closed (Jones et al., J Neurosurg 1981;54:773), which is 0.2–0.24 and 0.35 of healthy flow: about
0.35 (1 - exp(-t / 160 min)). The height is calibrated to the volumes of infarcts."""
LETHAL_RANGE = (0.05, 0.55)
LEAST_FLOW, NARROWED_FLOW = (0.0, 0.33), (0.3, 0.55)
"""Least flow without and with excellent collaterals, behind an occluded (calibrated) and a narrowed large artery."""
BRANCH_FLOW = 0.2
"""Least flow behind branches and perforators, or the lethal one where that is lower."""
CORE_EDGE_MM = 1.0
TOLERANCE, TOLERANCE_MM = 0.138, 6.0  # SD in units of relative flow, and correlation length: calibrated
WHITE_TOLERANCE = 0.02  # of white matter above grey
SHOULDER_MM = 5.0  # over which flow becomes healthy beyond the deficit
FLOW_EDGE_MM = 2.0
DEPTH = 0.15  # part of the deficit that has the least flow
MOST_INFARCTED = 0.4  # of the tissue at risk, where the volume of the infarct is given
LEAST_VOXELS = 16  # of tissue that an occlusion may strike
LUXURY = 0.15  # how far flow in a reperfused core exceeds healthy flow


class Lesion(NamedTuple):
    """Maps (X, Y, Z), defined in fluid too, where they mean nothing.

    core: the infarct that the MRI will show, in [0, 1] with an edge of a few millimetres; the label is `core > 0.5`.
    core_at_ct: what of it is there at the time of the CT.
    relative_flow: blood flow at the time of the CT relative to healthy; above 1 in some reperfused cores.
    occluded_flow: the same while the vessel was occluded, which is what the tissue suffered.
    """

    core: Float
    core_at_ct: Float
    relative_flow: Float
    occluded_flow: Float


def lethal_flow(patient: Patient, minutes: float) -> float:
    """Flow relative to healthy below which tissue of ordinary tolerance is dead after so many minutes."""
    usual = LETHAL_FLOW * (1 - np.exp(-minutes / LETHAL_MINUTES))
    return float(np.clip(usual + patient.frailty, *LETHAL_RANGE))


def least_flow(patient: Patient) -> float:
    """Flow in the depth of the deficit relative to healthy; better collaterals leave more."""
    bounds = {"territorial": LEAST_FLOW, "hypoperfusion": NARROWED_FLOW}.get(patient.kind, (BRANCH_FLOW, BRANCH_FLOW))
    return bounds[0] + (bounds[1] - bounds[0]) * patient.collaterals


def draw_lesion(rng: np.random.Generator, patient: Patient, head: Head) -> Lesion:
    """Draws the lesion of a patient; the maps are trivial for a lesion-free one.

    Raises:
        ValueError: the grid holds too little tissue of the hemisphere.
    """
    grid = patient.grid
    healthy, nothing = np.ones(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    if patient.kind == "lesion-free":
        return Lesion(nothing, nothing, healthy, healthy)

    at_risk, reach = _at_risk(patient, head)
    exposure = exposed(rng, patient, _seeds(rng, patient, at_risk, reach), reach)
    core_voxels = None
    if patient.core_ml:
        core_voxels = int(np.clip(round(patient.core_ml / grid.voxel_ml), 1, MOST_INFARCTED * at_risk.sum()))
    occluded = residual_flow(patient, exposure, at_risk, reach, core_voxels)
    if patient.kind == "hypoperfusion":  # no race: the tissue has always lived with this flow
        return Lesion(nothing, nothing, occluded, occluded)
    tolerance = TOLERANCE * grid.smooth_noise(rng, TOLERANCE_MM) + WHITE_TOLERANCE * head.white
    suffered = np.where(at_risk, occluded + tolerance, np.inf)
    return lesion_at_ct(patient, *_race(patient, suffered, core_voxels), occluded)


def _at_risk(patient: Patient, head: Head) -> tuple[Mask, Float]:
    """The tissue that the occlusion may strike, and how far inside the supply of the vessel each voxel lies, in mm."""
    hemisphere = head.side if patient.side == "right" else -head.side
    tissue = head.tissue > INFARCTABLE
    reach = np.minimum(head.territory[patient.territory], hemisphere) if patient.large_artery else hemisphere
    at_risk = tissue & (reach > 0)
    if patient.kind == "lacune":
        at_risk &= _deep(head, patient.grid)
    if at_risk.sum() < LEAST_VOXELS:  # the slab misses the territory: elsewhere on that side, then
        reach = hemisphere
        at_risk = tissue & (reach > 0)
    if at_risk.sum() < LEAST_VOXELS:
        raise ValueError(
            f"{patient.name}: the grid of {patient.grid.shape} voxels holds {at_risk.sum()} voxels of tissue on the "
            f"{patient.side}, expected at least {LEAST_VOXELS}: too few to hold a territory; take more slices"
        )
    return at_risk, reach


def _race(patient: Patient, suffered: Float, core_voxels: int | None) -> tuple[Float, Float]:
    """The core on the MRI and at the time of the CT, where flow and tolerance add up to `suffered` (X, Y, Z)."""
    limit = lethal_flow(patient, patient.minutes_until_mri)
    core = suffered < limit if core_voxels is None else lowest(suffered, core_voxels)
    if core_voxels is not None:  # the volume is given: so is the tolerance that goes with it
        limit = float(suffered[core].max())
    earlier = limit - lethal_flow(patient, patient.minutes_until_mri) + lethal_flow(patient, patient.minutes_until_ct)
    at_ct = core & (suffered < earlier)
    edged = [soft_edge(patient.grid, mask, CORE_EDGE_MM) for mask in (core, at_ct)]
    return edged[0], edged[1]


def lesion_at_ct(patient: Patient, core: Float, core_at_ct: Float, occluded: Float) -> Lesion:
    """The lesion with the flow that is there at the time of the CT: much of the healthy one after reperfusion."""
    flow = 1 - 0.1 * (1 - occluded) + LUXURY * core_at_ct if patient.reperfused else occluded
    return Lesion(core, core_at_ct, flow.astype(np.float32), occluded)


def _deep(head: Head, grid: Grid) -> Mask:
    """Basal ganglia, thalamus and the white matter around them: where perforating arteries end."""
    return distance_transform_edt(head.bone < 0.3, sampling=grid.spacing) > 25


def _seeds(rng: np.random.Generator, patient: Patient, at_risk: Mask, reach: Float) -> np.ndarray:
    """Voxels (N, 3) in the middle of the deficit: one, or one for each embolus."""
    seeds = np.argwhere(at_risk)
    if patient.large_artery:
        # Occlusions favour the territory's own interior over its border zones.
        weights = np.clip(reach[at_risk], 1, 15).astype(np.float64)
        return seeds[rng.choice(len(seeds), p=weights / weights.sum())][None]
    return seeds[rng.choice(len(seeds), size=patient.emboli, replace=False)]


def exposed(rng: np.random.Generator, patient: Patient, seeds: np.ndarray, reach: Float) -> Float:
    """How deep a voxel lies in the shadow of the occlusion, in mm: near its middle, the voxels `seeds` (N, 3).

    Behind a large artery, depth in its territory (`reach` in mm) counts too: far from the neighbours' supply.
    """
    grid = patient.grid
    if patient.large_artery:
        return np.minimum(reach, 12) - 0.6 * distance_to(grid, seeds) + 5 * grid.smooth_noise(rng, 8.0)
    return -distance_to(grid, seeds) + 1.5 * grid.smooth_noise(rng, 3.0)


def residual_flow(
    patient: Patient, exposure: Float, at_risk: Mask, reach: Float, core_voxels: int | None = None
) -> Float:
    """Flow relative to healthy while the vessel is occluded, (X, Y, Z): the lower, the more exposed.

    Args:
        patient: whose.
        exposure: (X, Y, Z) in mm.
        at_risk: (X, Y, Z) what the deficit's volume is counted in.
        reach: (X, Y, Z) in mm, how far inside the supply of the vessel; flow is healthy some millimetres outside.
        core_voxels: how many of the most exposed voxels get less than the lethal flow, where that is given.
    """
    ranked = np.sort(exposure[at_risk])[::-1]
    deficit = int(np.clip(round(patient.low_flow_ml / patient.grid.voxel_ml), (core_voxels or 1) + 1, ranked.size))
    edge = ranked[deficit - 1]
    deepest = ranked[int(DEPTH * deficit)]
    knots = {float(edge): EDGE_FLOW, float(edge) - SHOULDER_MM: 1.0}
    least = least_flow(patient)
    if core_voxels is not None:
        lethal = lethal_flow(patient, patient.minutes_until_mri)
        knots[float(ranked[core_voxels - 1])] = lethal
        least = min(least, lethal)
        deepest = ranked[int(DEPTH * core_voxels)]
    knots[float(deepest)] = least
    places = sorted(knots)
    flow = np.interp(exposure, places, [knots[place] for place in places])
    return patient.grid.smooth(np.maximum(flow, np.interp(reach, [-6, 2], [1, 0])), FLOW_EDGE_MM).astype(np.float32)
