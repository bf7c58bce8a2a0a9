"""Which voxels of real diffusion MRI are brain, and how much of each is fluid, grey and white matter."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label
from scipy.special import expit, logit

from ctp_ldm.phantom.grid import Float, Grid, Mask
from ctp_ldm.phantom.mri import B_VALUE, CSF_ADC, CSF_B0, GREY_ADC, GREY_B0, WHITE_ADC, WHITE_B0

FOREGROUND = 0.2  # of the brain's level: above noise, below fluid
NECK_MM = 4.0  # half the thickness of what may hang from a brain without being one
LEAST_BRAIN_ML = 100.0

TISSUE_B0, TISSUE_ADC = (GREY_B0 + WHITE_B0) / 2, (GREY_ADC + WHITE_ADC) / 2
HEALTHY_ADC = 1000.0  # the highest of tissue without fluid; noise reaches it
ROUNDS, FITTED_VOXELS = 12, 50_000
LEAST_SD = 0.03  # of log signal within a tissue
LEAST_TISSUE = 0.6  # voxels with less say little about grey and white
PRIOR_WEIGHT, MOST_EVIDENCE = 1.5, 2.0  # in log odds, of template and signal
LESION_SMOOTHING_MM = 6.0


class Tissue(NamedTuple):
    """Volume fractions (X, Y, Z) in [0, 1] of the brain's voxels, 0 outside."""

    grey: Float
    white: Float
    csf: Float


def brain_mask(grid: Grid, dwi: Float, adc: Float) -> Mask:
    """The brain, (X, Y, Z), with its ventricles; of images with a skull too, whose fat is suppressed.

    Empty where nothing as large as a brain is found.
    """
    positive = (dwi > 0) & (adc > 0)
    none = np.zeros(dwi.shape, bool)
    if not positive.any():
        return none
    # Bright voxels are brain: air, fluid and fat are dark at b = 1000.
    values = dwi[positive]
    bright = values[values > _otsu(values)]
    if not bright.size:
        return none
    level = np.median(bright)
    mask = (dwi > FOREGROUND * level) & (adc > 0)
    mask = np.stack([binary_fill_holes(mask[..., z]) for z in range(mask.shape[2])], axis=2)
    core = _largest(_depth(grid, mask) > NECK_MM)
    mask &= _depth(grid, ~core) < NECK_MM + 3
    mask = binary_fill_holes(_largest(mask))
    return mask if mask.sum() * grid.voxel_ml >= LEAST_BRAIN_ML else none


def _depth(grid: Grid, mask: Mask) -> Float:
    return distance_transform_edt(np.pad(mask, 1, mode="edge"), sampling=grid.spacing)[1:-1, 1:-1, 1:-1]


def _largest(mask: Mask) -> Mask:
    parts, count = label(mask)
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1 if count else mask


def _otsu(values: Float) -> float:
    """The threshold that parts the values best (Otsu 1979)."""
    counts, edges = np.histogram(values, 256, (0.0, float(np.percentile(values, 99.5))))
    centres, below = (edges[1:] + edges[:-1]) / 2, np.cumsum(counts)
    above, total = below[-1] - below, np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return float(centres[np.nan_to_num(between).argmax()])


def segment(grid: Grid, dwi: Float, adc: Float, brain: Mask, lesion: Mask, prior: Float) -> Tissue:
    """Fractions of a brain's tissues.

    b = 0 signal, freed of fluid's, is brighter in grey than in white matter. Two classes and a smooth bias field are
    fitted to it in turns (Wells et al. 1996), helped by the template where contrast is poor, as in the iron-rich deep
    grey matter.

    Args:
        grid: of the images.
        dwi: (X, Y, Z) at b = 1000, any unit.
        adc: (X, Y, Z) in 10^-6 mm^2/s.
        brain, lesion: (X, Y, Z).
        prior: (X, Y, Z) probability that tissue is grey, in (0, 1), smooth.
    """
    b0 = dwi * np.exp(1e-6 * B_VALUE * np.minimum(adc, TISSUE_ADC))
    # Left as it is, an infarct would be seen in these maps, and so with its outline in the simulated CT.
    adc = levelled(grid, adc, TISSUE_ADC, lesion, adc < HEALTHY_ADC)
    csf = np.where(brain, fluid(adc), 0).astype(np.float32)
    certain = brain & (csf < 1 - LEAST_TISSUE) & (dwi > 0)
    signal = np.log(np.where(certain, b0 * _tissue_share(csf), 1))
    odds = PRIOR_WEIGHT * logit(prior)
    bias, contrast = _two_classes(signal, certain & ~lesion, logit(prior))
    expected = contrast.white + prior * (contrast.grey - contrast.white)
    signal = levelled(grid, signal - bias, expected, lesion, certain)
    # A voxel may be of neither class: what it says is believed up to a point.
    odds += np.where(certain, contrast(signal).clip(-MOST_EVIDENCE, MOST_EVIDENCE), 0)
    tissue, grey = np.where(brain, 1 - csf, 0), expit(odds)
    return Tissue(*(m.astype(np.float32) for m in (tissue * grey, tissue * (1 - grey), csf)))


def fluid(adc: Float) -> Float:
    """The part of each voxel, (X, Y, Z), that is fluid, from ADC in 10^-6 mm^2/s; none in what healthy tissue has.

    Signals of tissue and fluid add up in a voxel; the fluid's is the stronger one at b = 0, so an ADC half-way between
    the two means less than half of fluid.
    """
    tissue, free, found = (np.exp(-1e-6 * B_VALUE * np.asarray(a, np.float32)) for a in (HEALTHY_ADC, CSF_ADC, adc))
    from_tissue, from_fluid = TISSUE_B0 * (tissue - found), CSF_B0 * (found - free)
    part = from_tissue / np.maximum(from_tissue + from_fluid, 1e-6)
    return np.where(found <= free, 1, part).clip(0, 1).astype(np.float32)


def levelled(grid: Grid, image: Float, expected: Float | float, lesion: Mask, known: Mask) -> Float:
    """The image without the smooth part of what sets its lesion apart from the expected, as seen where it is known."""
    seen = (lesion & known).astype(np.float32)
    apart = grid.smooth(seen * (image - expected), LESION_SMOOTHING_MM)
    return (image - lesion * apart / np.maximum(grid.smooth(seen, LESION_SMOOTHING_MM), 1e-6)).astype(np.float32)


def _tissue_share(csf: Float) -> Float:
    """What to multiply the signal of a voxel by to make it that of its tissue, were the voxel full of it."""
    tissue, free = (b0 * np.exp(-1e-6 * B_VALUE * adc) for b0, adc in ((TISSUE_B0, TISSUE_ADC), (CSF_B0, CSF_ADC)))
    return tissue / ((1 - csf) * tissue + csf * free)


class _Contrast(NamedTuple):
    """Mean log signal of grey and white matter, and the SD within each."""

    grey: float
    white: float
    sd: float

    def __call__(self, signal: np.ndarray) -> np.ndarray:
        """The log odds that voxels of this log signal are grey."""
        return (self.grey - self.white) * (signal - (self.grey + self.white) / 2) / self.sd**2


def _two_classes(signal: Float, certain: Mask, prior: Float) -> tuple[Float, _Contrast]:
    """The bias field, (X, Y, Z), and the contrast of the two classes, both of log signal; fitted where `certain`."""
    low, high = np.percentile(signal[certain], [2, 98])
    chosen = np.flatnonzero(certain & (signal >= low) & (signal <= high))
    chosen = chosen[:: max(1, chosen.size // FITTED_VOXELS)]
    y, odds = signal.ravel()[chosen], prior.ravel()[chosen]
    design = np.stack([term.ravel()[chosen] for term in _polynomials(signal.shape)], axis=1)
    weights, part = np.zeros(design.shape[1]), expit(odds)
    for _ in range(ROUNDS):
        flat = y - design @ weights
        grey, white = np.average(flat, weights=part), np.average(flat, weights=1 - part)
        level = np.where(part > 0.5, grey, white)
        contrast = _Contrast(grey, white, max(LEAST_SD, float(np.std(flat - level))))
        part = expit(odds + contrast(flat))
        weights = np.linalg.lstsq(design, y - white - part * (grey - white), rcond=None)[0]
    bias = np.zeros(signal.shape, np.float32)
    for weight, term in zip(weights, _polynomials(signal.shape), strict=True):
        bias += np.float32(weight) * term
    return bias, contrast


def _polynomials(shape: tuple[int, ...]) -> Iterator[Float]:
    """Products of coordinates up to the third order, (X, Y, Z), without the constant."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    for powers in product(range(4), repeat=3):
        if 0 < sum(powers) <= 3:
            x, y, z = (axis**power for axis, power in zip(axes, powers, strict=True))
            yield x[:, None, None] * y[:, None] * z
