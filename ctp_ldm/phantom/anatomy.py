"""Heads: the MNI152 tissue maps, warped per patient and sampled on the acquisition grid."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from ctp_ldm.phantom.grid import Float, Mask
from ctp_ldm.phantom.patient import Patient
from ctp_ldm.phantom.vessels import ARTERIES, TERRITORIES, VEINS, Territory, Vessel, centreline, mirrored

# Distance fields are smooth: coarser grids than the tissue maps' 1 mm are enough for them.
COARSE = 2
COARSEST = 4
SUBARACHNOID_MM = 1.0
SINUS_RADIUS_MM = 3.0
SAMPLING_MM = 3.0


@dataclass(frozen=True)
class Atlas:
    """The template, made once per process and shared by all patients.

    Attributes:
        origin: world coordinates (mm) of the first voxel; axes are RAS+, with 1 mm steps for the bytes.
        grey, white, artery, vein: (X, Y, Z) volume fractions, 0-255.
        cavity: signed distance in mm to the inside of the skull, positive outside, in steps of `COARSE` mm.
        vault: the same to a smooth hull of it, in steps of `COARSEST` mm. The two part at the base of the skull.
        supply: per territory, distance in mm to its arteries, in steps of `COARSE` mm.
    """

    origin: NDArray[np.float64]
    grey: NDArray[np.uint8]
    white: NDArray[np.uint8]
    artery: NDArray[np.uint8]
    vein: NDArray[np.uint8]
    cavity: Float
    vault: Float
    supply: dict[Territory, Float]


@dataclass(frozen=True)
class Head:
    """Volume fractions of one patient's voxels, each (X, Y, Z) in [0, 1]; what is left to 1 is air.

    `territory` holds, per artery, by how many mm a voxel is nearer to it than to any other; `side` is the template's
    left-right coordinate in mm, positive on the patient's right.
    """

    grey: Float
    white: Float
    csf: Float
    bone: Float
    scalp: Float
    artery: Float
    vein: Float
    territory: dict[Territory, Float]
    side: Float

    @property
    def tissue(self) -> Float:
        """Grey and white matter together."""
        return self.grey + self.white


def load_atlas() -> Atlas:
    """Builds the atlas from the ICBM152 2009a maps (Fonov et al. 2011) that nilearn ships; takes a few seconds."""
    # Imported here: worker processes are handed the atlas and are spared nilearn's long import.
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template

    template = load_mni152_gm_template(resolution=1)
    origin = np.asarray(template.affine)[:3, 3]
    grey = np.asarray(template.dataobj, dtype=np.float32)
    white = np.asarray(load_mni152_wm_template(resolution=1).dataobj, dtype=np.float32)
    brain = np.asarray(load_mni152_brain_mask(resolution=1).dataobj) > 0.5
    grey, white = _sharpen(grey, white)

    cavity = _distance_to_hull(brain, COARSE, reach=8.0)
    vault = _distance_to_hull(brain, COARSEST, reach=30.0)
    artery = np.zeros(grey.shape, np.float32)
    vein = np.zeros(grey.shape, np.float32)
    supply: dict[Territory, Float] = {}
    for territory in TERRITORIES:
        vessels = mirrored(ARTERIES[territory])
        for vessel in vessels:
            _paint(artery, vessel, origin)
        supply[territory] = _distance_to_vessels(vessels, origin, cavity.shape)
    for vessel in [*mirrored(VEINS), _sagittal_sinus(cavity, origin)]:
        _paint(vein, vessel, origin)
    return Atlas(origin, _bytes(grey), _bytes(white), _bytes(artery), _bytes(vein), cavity, vault, supply)


def _bytes(fraction: Float) -> NDArray[np.uint8]:
    return np.rint(fraction * 255).astype(np.uint8)


def _sharpen(grey: Float, white: Float) -> tuple[Float, Float]:
    """The template averages many people; one person's voxel is mostly of one tissue. Cubing moves the maps there."""
    csf = np.clip(1 - grey - white, 0, 1)
    total = grey**3 + white**3 + csf**3
    return grey**3 / total, white**3 / total


def _distance_to_hull(brain: Mask, step: int, reach: float) -> Float:
    """Signed distance in mm, in steps of `step` mm, to a hull that bridges the brain's gaps up to 2 `reach` mm wide."""
    pad = int(reach / step) + 2
    brain = np.pad(brain[::step, ::step, ::step], pad)
    grown = distance_transform_edt(~brain, sampling=step) <= reach
    closed = distance_transform_edt(binary_fill_holes(grown), sampling=step) > reach - SUBARACHNOID_MM
    distance = distance_transform_edt(~closed, sampling=step) - distance_transform_edt(closed, sampling=step)
    return gaussian_filter(distance[pad:-pad, pad:-pad, pad:-pad].astype(np.float32), 1.0)


def _distance_to_vessels(vessels: list[Vessel], origin: NDArray[np.float64], shape: tuple[int, ...]) -> Float:
    free = np.ones(shape, bool)
    for vessel in vessels:
        index = np.rint((centreline(vessel) - origin) / COARSE).astype(int)
        free[tuple(index.T)] = False
    return gaussian_filter(distance_transform_edt(free, sampling=COARSE).astype(np.float32), 1.0)


def _sagittal_sinus(cavity: Float, origin: NDArray[np.float64]) -> Vessel:
    """The superior sagittal sinus: the line where the midsagittal plane meets the inside of the skull."""
    pivot = np.array([0.0, -20.0, 5.0])
    radii = np.arange(40, 120, 0.5)
    points = []
    for angle in np.deg2rad(np.arange(20, 190, 4)):  # from the forehead over the vertex to the torcula
        ray = pivot + radii[:, None] * np.array([0, np.cos(angle), np.sin(angle)])
        distance = map_coordinates(cavity, ((ray - origin) / COARSE).T, order=1, mode="nearest")
        x, y, z = ray[np.argmax(distance > -SINUS_RADIUS_MM / 2)]
        points.append((float(x), float(y), float(z)))
    return Vessel(SINUS_RADIUS_MM, points)


def _paint(fraction: Float, vessel: Vessel, origin: NDArray[np.float64]) -> None:
    """Adds a tube with a one-voxel soft edge to `fraction`, in place."""
    if vessel.radius == 0:
        return
    reach = int(np.ceil(vessel.radius + 1))
    cube = np.stack(np.meshgrid(*3 * [np.arange(-reach, reach + 1)], indexing="ij"), axis=-1).reshape(-1, 3)
    points = centreline(vessel) - origin
    index = np.rint(points).astype(int)[:, None] + cube
    distance = np.linalg.norm(index - points[:, None], axis=-1)
    values = np.clip(vessel.radius - distance + 0.5, 0, 1).astype(np.float32)
    np.maximum.at(fraction, tuple(np.moveaxis(index, -1, 0)), values)


def to_template(patient: Patient, world: Float) -> Float:
    """World coordinates (3, ...) in mm to the template's: pose and head size, then a smooth individual deformation.

    The deformation is a sum of a few long sine waves: the same at every resolution, and invertible because its
    steepest slope stays below one.
    """
    turn = Rotation.from_euler("xyz", patient.head_turn_degrees, degrees=True).as_matrix()
    matrix = (np.diag(1 / np.array(patient.head_scale)) @ turn).astype(np.float32)
    shift = np.array(patient.head_position_mm, dtype=np.float32).reshape(3, *[1] * (world.ndim - 1))
    points = np.tensordot(matrix, world - shift, axes=1)
    moved = points.copy()
    for wave in patient.deformation:
        phase = np.tensordot(np.array(wave.frequency, np.float32), points, axes=1) + np.float32(wave.phase)
        moved += np.multiply.outer(np.array(wave.amplitude_mm, np.float32), np.sin(phase))
    return moved


def build_head(atlas: Atlas, patient: Patient) -> Head:
    """Samples the atlas on the patient's grid, averaging several points per voxel so that edges have partial volume."""
    grid = patient.grid
    fractions = np.zeros((7, *grid.shape), np.float32)
    steps = [int(np.ceil(s / SAMPLING_MM)) for s in grid.spacing]
    offsets = list(product(*[(np.arange(n) + 0.5) / n - 0.5 for n in steps]))
    for offset in offsets:
        fractions += _fractions(atlas, patient, to_template(patient, grid.world(offset)))
    fractions /= len(offsets)

    centre = to_template(patient, grid.world())
    grey, white, csf, bone, scalp, artery, vein = fractions
    return Head(grey, white, csf, bone, scalp, artery, vein, territories(atlas, centre), centre[0])


def territories(atlas: Atlas, points: Float) -> dict[Territory, Float]:
    """`Head.territory` at template points (3, X, Y, Z)."""
    coarse = _index(atlas, points) / COARSE
    supply = {t: map_coordinates(atlas.supply[t], coarse, order=1, mode="nearest") for t in TERRITORIES}
    return {t: np.minimum.reduce([supply[o] for o in TERRITORIES if o != t]) - supply[t] for t in TERRITORIES}


def sample(atlas: Atlas, volume: NDArray[np.uint8], points: Float) -> Float:
    """Fractions, (X, Y, Z), of one of the atlas's volumes at template points (3, X, Y, Z)."""
    return map_coordinates(volume, _index(atlas, points), output=np.float32, order=1, mode="constant") / np.float32(255)


def shells(patient: Patient, cavity: Float, vault: Float) -> tuple[Float, Float, Float]:
    """Fractions of the inside of the skull, of bone and of scalp, by the signed distances of `Atlas`."""
    vault = np.minimum(cavity, vault)
    inside, skull = 1 - soft_step(cavity), soft_step(vault - patient.skull_mm)
    # Gaps of the skull base become bone, as the petrous and sphenoid bones fill them.
    bone = soft_step(cavity) - skull
    return inside, bone, skull - soft_step(vault - patient.skull_mm - patient.scalp_mm)


def _index(atlas: Atlas, points: Float) -> Float:
    return points - atlas.origin.astype(np.float32).reshape(3, 1, 1, 1)


def _fractions(atlas: Atlas, patient: Patient, points: Float) -> Float:
    """Fractions of the seven materials of `Head`, in its order, (7, X, Y, Z), at template points (3, X, Y, Z)."""
    index = _index(atlas, points)
    cavity = map_coordinates(atlas.cavity, index / COARSE, order=1, mode="nearest")
    vault = map_coordinates(atlas.vault, index / COARSEST, order=1, mode="nearest")
    inside, bone, scalp = shells(patient, cavity, vault)
    artery = sample(atlas, atlas.artery, points) * inside
    vein = sample(atlas, atlas.vein, points) * inside * (1 - artery)
    parenchyma = inside * (1 - artery - vein)
    grey, white = (sample(atlas, volume, points) * parenchyma for volume in (atlas.grey, atlas.white))
    csf = np.clip(parenchyma - grey - white, 0, 1)
    return np.stack([grey, white, csf, bone, scalp, artery, vein])


def soft_step(distance: Float) -> Float:
    """0 to 1 over the 2 mm around distance 0."""
    return np.clip(distance / 2 + 0.5, 0, 1)
