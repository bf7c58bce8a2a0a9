"""What the MRI scanner sees: diffusion-weighted images and the ADC computed from them."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from ctp_ldm.phantom.anatomy import Head
from ctp_ldm.phantom.chronic import Chronic
from ctp_ldm.phantom.grid import Float, Grid, Mask
from ctp_ldm.phantom.lesions import Lesion
from ctp_ldm.phantom.patient import Patient

B_VALUE = 1000.0  # s/mm^2
GREY_ADC, WHITE_ADC, CSF_ADC = 800.0, 720.0, 2900.0  # 10^-6 mm^2/s
GREY_B0, WHITE_B0, CSF_B0 = 1.0, 0.67, 3.0
BONE_B0, SCALP_B0 = 0.02, 0.15  # compact bone is empty, fat is suppressed
SCALP_ADC = 600.0
LARGEST_ADC = 4000.0
WITHIN_CORE = 110.0  # SD of ADC within a core
SCAR_ADC, SCAR_B0 = 1500.0, 1.5  # gliosis: T2 shines through
DISEASED_ADC, DISEASED_B0 = 300.0, 1.3  # ADC above healthy tissue's
DISTORTION_SPREAD_MM = 20.0


class Diffusion(NamedTuple):
    """`dwi` (X, Y, Z) int16 at b = 1000 s/mm^2 in scanner units; `adc` (X, Y, Z) int16 in 10^-6 mm^2/s.

    `label` (X, Y, Z) bool is the infarct as it is seen in them, displaced as they are.
    """

    dwi: np.ndarray
    adc: np.ndarray
    label: Mask


def diffusion(rng: np.random.Generator, patient: Patient, head: Head, lesion: Lesion, chronic: Chronic) -> Diffusion:
    """Acquires b = 0 and b = 1000 images and fits S = S0 exp(-b ADC) voxel by voxel.

    The signals of the tissues in a voxel add up, so partial volume with fluid acts as it does in a scanner. Where
    there is no signal the fit is meaningless and, as scanners do, set to 0. The head lies a little otherwise than in
    the CT, and echo-planar imaging distorts it: signal is moved along one axis and piled up or thinned out by that.
    """
    grid = patient.grid
    index, compression = _displaced(rng, patient)

    def acquired(image: Float) -> Float:
        return map_coordinates(image, index, output=np.float32, order=1, mode="nearest")

    bias = coil_bias(rng, grid)
    b0, b1000 = (acquired(image) * compression * bias for image in signals(rng, patient, head, lesion, chronic))
    label = acquired(lesion.core) > 0.5
    b0, b1000 = (_rician(rng, image, patient.mri_noise) for image in (b0, b1000))
    adc = 1e6 / B_VALUE * np.log(np.maximum(b0, 1e-6) / np.maximum(b1000, 1e-6))
    adc = np.where(b0 > 6 * patient.mri_noise, adc.clip(0, LARGEST_ADC), 0)
    dwi = (patient.mri_gain * b1000).clip(0, np.iinfo(np.int16).max)
    return Diffusion(np.rint(dwi).astype(np.int16), np.rint(adc).astype(np.int16), label)


def _displaced(rng: np.random.Generator, patient: Patient) -> tuple[Float, Float]:
    """Where on the CT's grid each voxel of the MRI comes from, (3, X, Y, Z), and its signal's compression (X, Y, Z)."""
    grid = patient.grid
    index = misregistered(patient, grid)
    along = patient.distortion_mm / grid.spacing[1] * grid.smooth_noise(rng, DISTORTION_SPREAD_MM)
    index[1] += along
    return index, (1 + np.gradient(along, axis=1)).clip(0.5, 1.5).astype(np.float32)


def misregistered(patient: Patient, grid: Grid) -> Float:
    """The voxels of a grid, (3, X, Y, Z), moved by what registration leaves between CT and MRI."""
    turn = Rotation.from_euler("xyz", patient.mri_turn_degrees, degrees=True).as_matrix()
    middle = (np.array(grid.shape) - 1) / 2
    # In voxel axes the turn is spacing^-1 R spacing; the tilt of the grid only changes which axis it is about.
    matrix = np.diag(1 / np.array(grid.spacing)) @ turn @ np.diag(grid.spacing)
    offset = middle - matrix @ middle + np.array(patient.mri_shift_mm) / grid.spacing
    voxels = np.indices(grid.shape, dtype=np.float32)
    return np.tensordot(matrix.astype(np.float32), voxels, axes=1) + offset.astype(np.float32).reshape(3, 1, 1, 1)


def signals(
    rng: np.random.Generator, patient: Patient, head: Head, lesion: Lesion, chronic: Chronic
) -> tuple[Float, Float]:
    """Noise-free b = 0 and b = 1000 signals, (X, Y, Z), in units of grey matter's b = 0."""
    texture = patient.grid.smooth_noise(rng, 4.0)
    core_adc = (patient.core_adc + WITHIN_CORE * patient.grid.smooth_noise(rng, 4.0)).clip(250, None)
    # T2 rises while the infarct takes up water: 5 % more signal after hours, 40 % after days.
    core_b0 = 1.05 + 0.4 * (1 - np.exp(-patient.mri_hours / 36))
    blood = head.artery + head.vein  # moving blood has lost its signal
    b0, b1000 = np.zeros((2, *patient.grid.shape), np.float32)
    for fraction, s0, adc in ((head.grey, GREY_B0, GREY_ADC), (head.white, WHITE_B0, WHITE_ADC)):
        signal = fraction * s0 * (1 + 0.02 * texture) * (1 + lesion.core * (core_b0 - 1))
        signal *= (1 + (SCAR_B0 - 1) * chronic.scar) * (1 + (DISEASED_B0 - 1) * chronic.diseased)
        # Between core and healthy tissue diffusivity changes gradually.
        tissue_adc = adc + 25 * texture + chronic.scar * (SCAR_ADC - adc) + DISEASED_ADC * chronic.diseased
        tissue_adc += lesion.core * (core_adc - tissue_adc)
        b0 += signal
        b1000 += signal * np.exp(-B_VALUE * 1e-6 * tissue_adc)
    others = ((head.csf, CSF_B0, CSF_ADC), (head.scalp, SCALP_B0, SCALP_ADC), (head.bone, BONE_B0, SCALP_ADC))
    for fraction, s0, adc in (*others, (blood, 0.1, CSF_ADC)):
        b0 += fraction * s0
        b1000 += fraction * s0 * np.exp(-B_VALUE * 1e-6 * adc)
    return b0, b1000


def coil_bias(rng: np.random.Generator, grid: Grid) -> Float:
    """Receive sensitivity, (X, Y, Z) around 1: a quadratic polynomial of position, up to about 20 % across the head."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in grid.shape]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    terms = (x, y, z, x * y, x * z, y * z, x * x - 1 / 3, y * y - 1 / 3, z * z - 1 / 3)
    weights = rng.normal(0, 0.06, len(terms)).astype(np.float32)
    return np.exp(sum((w * term for w, term in zip(weights, terms, strict=True)), start=np.float32(0)))


def _rician(rng: np.random.Generator, signal: Float, sd: float) -> Float:
    """The magnitude of a complex signal with Gaussian noise in both channels."""
    real, imaginary = sd * rng.standard_normal((2, *signal.shape), dtype=np.float32)
    return np.hypot(signal + real, imaginary)
