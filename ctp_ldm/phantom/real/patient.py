"""What is true of a real patient at the time of a CT that never was: drawn, but for anatomy and infarct."""

import hashlib
from dataclasses import fields, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from ctp_ldm.phantom.anatomy import Atlas, Head
from ctp_ldm.phantom.chronic import Chronic
from ctp_ldm.phantom.grid import Float
from ctp_ldm.phantom.haemodynamics import perfusion
from ctp_ldm.phantom.lesions import (
    CORE_EDGE_MM,
    MOST_INFARCTED,
    Lesion,
    draw_lesion,
    exposed,
    lesion_at_ct,
    lethal_flow,
    residual_flow,
)
from ctp_ldm.phantom.mix import Mix
from ctp_ldm.phantom.mri import misregistered
from ctp_ldm.phantom.patient import Kind, Patient, Settings, draw_patient
from ctp_ldm.phantom.real.files import Mri
from ctp_ldm.phantom.real.head import build_real_head
from ctp_ldm.phantom.real.slab import Slab
from ctp_ldm.phantom.regions import INFARCTABLE, distance_to, soft_edge
from ctp_ldm.phantom.simulate import Streams, Truth, draw_streams
from ctp_ldm.phantom.vessels import TERRITORIES, Territory

Side = Literal["left", "right"]

EMBOLI_ML = 2.0  # smaller infarcts are those of branches
LEAST_SHARE = 0.1  # of a lesion, for a territory to count as struck
WITHIN_LESION_MM = 12.0  # depth in a struck territory that a lesion's voxels have, whatever the template says


class Struck(NamedTuple):
    """Where a real lesion lies: its voxels (N, 3), and how deep in the struck territories all are, (X, Y, Z) in mm."""

    seeds: np.ndarray
    reach: Float


def draw_real_streams(settings: Settings, name: str) -> Streams:
    """The random streams of a real patient, which depend on nothing but the seed and the patient's name."""
    return draw_streams(settings, _number(name))


def _number(name: str) -> int:
    """In place of a case's index."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def draw_real_truth(rng: Streams, settings: Settings, name: str, atlas: Atlas, mri: Mri, slab: Slab) -> Truth:
    """Draws what CT would have seen of a patient whose MRI is known, on the grid of `slab`.

    The CT lies a little otherwise than the MRI. No old damage is drawn: what there is shows in the real images, and on
    CT by its part of fluid.
    """
    drawn = draw_patient(rng.hidden, settings, _number(name))
    patient = replace(drawn, grid=slab.grid, scar_ml=0.0, leukoaraiosis=0.0, distortion_mm=0.0)
    own = build_real_head(atlas, patient, mri)
    index = misregistered(patient, mri.grid)

    def seen_by_ct(image: Float) -> Float:
        return slab(map_coordinates(image, index, order=1, mode="nearest"))

    maps = {f.name: seen_by_ct(getattr(own, f.name)) for f in fields(Head) if f.name != "territory"}
    head = Head(**maps, territory={t: seen_by_ct(depth) for t, depth in own.territory.items()})
    lesion_ml = float((slab(mri.lesion) > 0.5).sum() * slab.grid.voxel_ml)
    if lesion_ml:
        core = seen_by_ct(soft_edge(mri.grid, mri.lesion, CORE_EDGE_MM))
        patient, struck = _struck(replace(patient, core_ml=lesion_ml), head, core)
        lesion = _lesion_around(rng.lesion, patient, head, core, struck)
    else:
        patient = replace(patient, kind=_kind_without_lesion(rng.lesion, settings.mix), core_ml=0.0)
        lesion = draw_lesion(rng.lesion, patient, head)
    chronic = Chronic(np.zeros_like(head.grey), np.zeros_like(head.grey))
    flow = perfusion(rng.circulation, patient, head, lesion.relative_flow, chronic.flow)
    return Truth(patient, head, chronic, lesion, flow)


def _struck(patient: Patient, head: Head, core: Float) -> tuple[Patient, Struck]:
    """The patient with the kind, side and territory that the lesion gives away."""
    inside = core >= min(0.5, core.max())
    depths: dict[tuple[Side, Territory], Float] = {}
    for territory in TERRITORIES:
        depths["left", territory] = np.minimum(head.territory[territory], -head.side)
        depths["right", territory] = np.minimum(head.territory[territory], head.side)
    shares = {where: float((depth[inside] > 0).mean()) for where, depth in depths.items()}
    main = max(shares, key=lambda where: shares[where])
    reach = np.maximum.reduce([d for where, d in depths.items() if where == main or shares[where] >= LEAST_SHARE])
    seeds = np.argwhere(inside)
    reach = np.maximum(reach, WITHIN_LESION_MM - distance_to(patient.grid, seeds))
    kind: Kind = "emboli" if patient.core_ml < EMBOLI_ML else "territorial"
    return replace(patient, kind=kind, side=main[0], territory=main[1]), Struck(seeds, reach)


def _lesion_around(rng: np.random.Generator, patient: Patient, head: Head, core: Float, struck: Struck) -> Lesion:
    """The flow deficit that makes a given infarct: lethal within it, and with a border of its own around it."""
    at_risk = (head.tissue > INFARCTABLE) & (struck.reach > 0)
    exposure = exposed(rng, patient, struck.seeds, struck.reach)
    core_voxels = int(np.clip((core > 0.5).sum(), 1, max(1, MOST_INFARCTED * at_risk.sum())))
    occluded = residual_flow(patient, exposure, at_risk, struck.reach, core_voxels)
    at_ct = core * (occluded < lethal_flow(patient, patient.minutes_until_ct))
    return lesion_at_ct(patient, core, at_ct, occluded)


def _kind_without_lesion(rng: np.random.Generator, mix: Mix) -> Kind:
    either = mix.hypoperfusion + mix.lesion_free
    return "hypoperfusion" if rng.random() * either < mix.hypoperfusion else "lesion-free"
