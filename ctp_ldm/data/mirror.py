"""A lesion against the same place of the other hemisphere: whether the images show it where the mask has it."""

from collections.abc import Mapping

import numpy as np

LEAST_ML = 3.0
FLUID_ADC = 1500.0
"""10⁻⁶ mm²/s: voxels above hold fluid, which is not alike on both sides."""
NOT_DARKER, NOT_BRIGHTER = 0.98, 1.02
SHIFTS_MM = 12.0


def against_mirror(
    images: Mapping[str, np.ndarray], adc: np.ndarray, lesion: np.ndarray, brain: np.ndarray, sizes: np.ndarray
) -> dict[str, float]:
    """The median of images in a lesion, over that in its mirror site.

    The mirror plane is sagittal, where the brain lies most nearly on itself, so a head tilted by some degrees is
    compared with a site some millimetres off; what the lesion covers on both sides is left out.

    Args:
        images: name → (X, Y, Z).
        adc: (X, Y, Z), 10⁻⁶ mm²/s, to leave fluid out.
        lesion, brain: (X, Y, Z) bool; X runs from left to right.
        sizes: (3,) mm.

    Returns:
        Name → ratio; empty where 3 mL of tissue, or the same of the mirror site, are not there.
    """
    if not lesion.any() or not brain.any():
        return {}
    tissue = brain & (adc > 0) & (adc < FLUID_ADC)
    there, other = lesion & tissue, _reflected(lesion, _mirror(brain, sizes)) & tissue & ~lesion
    voxel_ml = float(np.prod(sizes)) / 1000
    if min(there.sum(), other.sum()) * voxel_ml < LEAST_ML:
        return {}
    medians = {name: (float(np.median(v[there])), float(np.median(v[other]))) for name, v in images.items()}
    return {name: round(a / b, 3) for name, (a, b) in medians.items() if b > 0}


def is_elsewhere(adc: float, dwi: float) -> bool:
    """Whether a site is neither darker in ADC nor brighter in DWI than its mirror site, as no acute infarct is."""
    return adc > NOT_DARKER and dwi < NOT_BRIGHTER


def _mirror(brain: np.ndarray, sizes: np.ndarray) -> int:
    """The sum of the two X indices that lie on each other when the brain is reflected as nearly on itself as can be."""
    middle = round(2 * float(np.flatnonzero(brain.any(axis=(1, 2)))[[0, -1]].mean()))
    reach = int(np.ceil(2 * SHIFTS_MM / sizes[0]))
    return max(range(middle - reach, middle + reach + 1), key=lambda s: int((brain & _reflected(brain, s)).sum()))


def _reflected(mask: np.ndarray, total: int) -> np.ndarray:
    """(X, Y, Z) bool: the voxels whose partner at X = `total` − X is in the mask."""
    partner = total - np.arange(mask.shape[0])
    inside = (partner >= 0) & (partner < mask.shape[0])
    found = np.zeros_like(mask)
    found[inside] = mask[partner[inside]]
    return found
