"""Old damage: scars of earlier infarcts and diseased white matter, dark on CT, poorly perfused, and bright in ADC."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.special import expit

from ctp_ldm.phantom.anatomy import Head
from ctp_ldm.phantom.grid import Float
from ctp_ldm.phantom.patient import Patient
from ctp_ldm.phantom.regions import distance_to, highest, soft_edge

CAVITY = 0.6  # of a scar's tissue turns to fluid
SCAR_FLOW, DISEASED_FLOW = 0.45, 0.65  # of healthy; in leukoaraiosis flow is reduced (Markus et al. 2000)
DISEASED_HU = -4.0
DEEP_MM = 20.0


class Chronic(NamedTuple):
    """Maps (X, Y, Z) in [0, 1] of scars and of diseased white matter."""

    scar: Float
    diseased: Float

    @property
    def flow(self) -> Float:
        """Blood flow, and volume, relative to healthy tissue."""
        return (1 - (1 - SCAR_FLOW) * self.scar) * (1 - (1 - DISEASED_FLOW) * self.diseased)


def draw_chronic(rng: np.random.Generator, patient: Patient, head: Head) -> tuple[Chronic, Head]:
    """Draws a patient's old damage; the head that comes back has fluid where scars have lost their tissue."""
    scar = _scar(rng, patient, head) if patient.scar_ml else np.zeros_like(head.grey)
    diseased = _diseased(rng, patient, head) if patient.leukoaraiosis else np.zeros_like(head.grey)
    kept = 1 - CAVITY * scar
    fluid = head.csf + head.tissue * (1 - kept)
    shrunk = replace(head, grey=head.grey * kept, white=head.white * kept, csf=fluid)
    return Chronic(scar, diseased * (1 - scar)), shrunk


def _scar(rng: np.random.Generator, patient: Patient, head: Head) -> Float:
    grid, tissue = patient.grid, head.tissue > 0.7
    seeds = np.argwhere(tissue)
    seed = seeds[rng.integers(len(seeds))]
    field = -distance_to(grid, seed[None]) + 3 * grid.smooth_noise(rng, 5.0)
    voxels = int(np.clip(round(patient.scar_ml / grid.voxel_ml), 1, 0.2 * tissue.sum()))
    return soft_edge(grid, highest(field, tissue, voxels), 1.5) * (head.tissue > 0.05)


def _diseased(rng: np.random.Generator, patient: Patient, head: Head) -> Float:
    """White matter near the ventricles, and patches further out: the more severe, the wider."""
    grid = patient.grid
    deep = distance_transform_edt(head.bone < 0.3, sampling=grid.spacing) > DEEP_MM
    ventricle = (head.csf > 0.6) & deep & (np.abs(head.side) < 40)
    if not ventricle.any():
        return np.zeros_like(head.grey)
    distance = distance_transform_edt(~ventricle, sampling=grid.spacing).astype(np.float32)
    reach = 3 + 12 * patient.leukoaraiosis
    share = expit((reach - distance) / 2 + 2.5 * grid.smooth_noise(rng, 4.0) - 1)
    return (share * head.white * deep).astype(np.float32)
