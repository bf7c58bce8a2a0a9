"""What the CT scanner sees: a 4D series in HU."""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter

from ctp_ldm.phantom.anatomy import Head
from ctp_ldm.phantom.chronic import DISEASED_HU, Chronic
from ctp_ldm.phantom.grid import Float, Grid
from ctp_ldm.phantom.haemodynamics import Bolus, Perfusion, tissue_curve
from ctp_ldm.phantom.lesions import Lesion
from ctp_ldm.phantom.patient import Patient

GREY_HU, WHITE_HU, CSF_HU, SCALP_HU, AIR_HU = 37.0, 29.0, 8.0, 10.0, -1000.0

HU_PER_WATER_PERCENT = 1.8
MOST_WATER_PERCENT = 10.0 / HU_PER_WATER_PERCENT
OEDEMA_SPREAD_MM = 8.0

VEIN_MTT_S = 5.0

NCCT_NOISE = 0.5  # of a perfusion frame's
REFERENCE_SLICE_MM = 5.0
KERNEL_MM = 0.7  # SD of the reconstruction kernel: a smooth one for brain, 50 % MTF near 3 lp/cm


def baseline(rng: np.random.Generator, patient: Patient, head: Head, lesion: Lesion, chronic: Chronic) -> Float:
    """Attenuation before contrast, (X, Y, Z) in HU, without noise."""
    fractions = (head.grey, head.white, head.csf, head.bone, head.scalp)
    units = (GREY_HU, WHITE_HU, CSF_HU, patient.bone_hu, SCALP_HU)
    air = 1 - sum(fractions) - head.artery - head.vein
    hu = air * AIR_HU + (head.artery + head.vein) * patient.blood_hu
    hu += sum(fraction * unit for fraction, unit in zip(fractions, units, strict=True))
    parenchyma = patient.ct_offset_hu + 0.7 * patient.grid.smooth_noise(rng, 8.0)
    parenchyma -= HU_PER_WATER_PERCENT * water_uptake(patient, lesion)
    parenchyma += DISEASED_HU * chronic.diseased
    return (hu + head.tissue * parenchyma).astype(np.float32)


def water_uptake(patient: Patient, lesion: Lesion) -> Float:
    """Water taken up by the tissue, (X, Y, Z) in per cent: none in the first half hour, then slowly up to 5.6 %.

    It darkens what CTP shows as core by about 3.7 % of its density, where 4.9 % (2.2–8.1) are published (Front
    Neurol 2023;14:1246775, patients without a shift of the midline).

    Oedema follows the depth of the ischaemia and spreads over its surroundings. It is far smoother than the infarct:
    nothing in the CT has the infarct's outline.
    """
    hours = max(0.0, patient.onset_minutes / 60 - 0.5)
    # Penumbra swells a little too (median 0.6 HU).
    ischaemia = (0.3 + 0.7 * lesion.core_at_ct) * (1 - lesion.occluded_flow) ** 2
    return MOST_WATER_PERCENT * (1 - np.exp(-hours / 3)) * patient.grid.smooth(ischaemia, OEDEMA_SPREAD_MM)


def noise_sd(grid: Grid, hu_at_5_mm: float) -> float:
    """Noise SD in HU of voxels of this grid.

    In-plane, noise of the reconstruction kernel's correlation length is averaged over the voxel (a box of width v has
    variance v^2 / 12); across slices, noise is independent and falls with the square root of thickness.
    """
    edge, _, thickness = grid.spacing
    in_plane = KERNEL_MM / np.hypot(KERNEL_MM, edge / 12**0.5)
    return float(hu_at_5_mm * in_plane * np.sqrt(REFERENCE_SLICE_MM / thickness))


def noise(rng: np.random.Generator, grid: Grid, sd: float) -> Float:
    """One frame of noise, (X, Y, Z) in HU, correlated in-plane."""
    edge = grid.spacing[0]
    sigma = np.hypot(KERNEL_MM, edge / 12**0.5) / edge
    impulse = np.zeros((33, 33))
    impulse[16, 16] = 1
    loss = np.sqrt((gaussian_filter(impulse, sigma) ** 2).sum())
    white = rng.standard_normal(grid.shape, dtype=np.float32)
    return gaussian_filter(white, (sigma, sigma, 0)) * np.float32(sd / loss)


def enhancement(patient: Patient, head: Head, flow: Perfusion, bolus: Bolus) -> Iterator[Float]:
    """Contrast enhancement of each frame, (X, Y, Z) in HU, without noise.

    Arteries behind an occlusion fill late, through collaterals, and incompletely.
    """
    perfused = (flow.cbf > 0.1) | (head.artery > 0) | (head.vein > 0)
    cbf, mtt, delay, vein = (m[perfused] for m in (flow.cbf, flow.mtt, flow.delay, head.vein))
    arterial = head.artery > 0
    filling = head.artery[arterial] * np.minimum(flow.relative_flow[arterial], 1) ** 0.5
    arterial_delay = flow.delay[arterial]
    frame = np.zeros(patient.grid.shape, np.float32)
    for t in patient.frame_times_s:
        draining = bolus(t - patient.venous_delay_s, VEIN_MTT_S) / VEIN_MTT_S
        frame[perfused] = tissue_curve(bolus, t, cbf, mtt, delay) + vein * draining
        frame[arterial] += filling * bolus.aif(t - arterial_delay)
        yield frame


def unenhanced_scan(rng: np.random.Generator, patient: Patient, unenhanced: Float) -> np.ndarray:
    """A CT without contrast, (X, Y, Z) int16 in HU; its dose is several times that of one perfusion frame."""
    sd = NCCT_NOISE * noise_sd(patient.grid, patient.ct_noise_hu)
    return np.rint(unenhanced + noise(rng, patient.grid, sd)).clip(-1024, 3071).astype(np.int16)


def series(
    rng: np.random.Generator, patient: Patient, head: Head, unenhanced: Float, flow: Perfusion, bolus: Bolus
) -> np.ndarray:
    """The 4D series as a scanner stores it, (X, Y, Z, T) int16 in HU."""
    sd = noise_sd(patient.grid, patient.ct_noise_hu)
    # Frames are stored contiguously (Fortran order), as in the file.
    frames = np.empty((*patient.grid.shape, len(patient.frame_times_s)), np.int16, order="F")
    for i, added in enumerate(enhancement(patient, head, flow, bolus)):
        frames[..., i] = np.rint(unenhanced + added + noise(rng, patient.grid, sd)).clip(-1024, 3071)
    return frames
