"""A small brain with a lesion, and copies of it with the faults that synthetic images have."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from ctp_ldm.metrics import PatientVolumes, describe

SHAPE = (8, 44, 48)
SPACING = (6.0, 2.0, 2.5)
SPANS = (4.0, 3000.0)
LESION_VALUES = (2.2, 480.0)


def ellipsoid(centre: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> np.ndarray:
    """(Z, H, W) bool; the centre in voxels."""
    axes = np.meshgrid(*(np.arange(n, dtype=float) for n in SHAPE), indexing="ij")
    terms = zip(axes, centre, SPACING, radii_mm, strict=True)
    return np.sum([((x - c) * mm / radius) ** 2 for x, c, mm, radius in terms], axis=0) < 1


BRAIN = ellipsoid((3.5, 21.5, 23.5), (22, 42, 54))
LESION = ellipsoid((4, 31, 24), (12, 14, 18)) & BRAIN


def real_image(seed: int = 0, lesion: np.ndarray = LESION) -> np.ndarray:
    """(Z, 2, H, W) float32: DWI around 1 and ADC around 800 with the texture of tissue, the lesion bright and dark."""
    noise = np.random.default_rng(seed).normal(size=(2, *SHAPE))
    texture = np.stack([gaussian_filter(channel, (0.5, 1.5, 1.5)) for channel in noise])
    texture /= texture.std(axis=(1, 2, 3), keepdims=True)
    image = np.array([1.0, 800.0])[:, None, None, None] + np.array([0.1, 50.0])[:, None, None, None] * texture
    dwi, adc = LESION_VALUES
    image[0][lesion] += dwi - 1.0
    image[1][lesion] += adc - 800.0
    return (image * BRAIN).transpose(1, 0, 2, 3).astype(np.float32)


def segment(image: np.ndarray) -> np.ndarray:
    """(Z, H, W) bool: where DWI is high and ADC low."""
    return (image[:, 0] > 1.6) & (image[:, 1] < 640) & BRAIN


def volumes(synthetic: np.ndarray, lesion: np.ndarray | None = LESION) -> PatientVolumes:
    """A patient with a segmenter's masks; the real image holds the lesion."""
    real = real_image(lesion=np.zeros_like(BRAIN) if lesion is None else lesion)
    return PatientVolumes(
        case="sub-1",
        spacing=SPACING,
        targets=("dwi", "adc"),
        units=("relative", "10⁻⁶ mm²/s"),
        synthetic=synthetic,
        real=real,
        brain=BRAIN,
        lesion=lesion,
        found=segment(synthetic),
        found_real=segment(real),
    )


def blurred(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image, (0, 0, 1.5, 1.5)) * BRAIN[:, None]


def shifted(image: np.ndarray) -> np.ndarray:
    """3 voxels, 7.5 mm, along W."""
    return np.roll(image, 3, axis=3) * BRAIN[:, None]


def erased(image: np.ndarray) -> np.ndarray:
    """The lesion replaced by the other side, the rest untouched."""
    return np.where(LESION[:, None], image[:, :, ::-1], image)


def painted(image: np.ndarray) -> np.ndarray:
    """The lesion exact, and as much again painted around it."""
    more = binary_dilation(LESION, iterations=4) & BRAIN & ~LESION
    return np.where(more[:, None], np.array(LESION_VALUES, dtype=np.float32)[None, :, None, None], image)


def blank(image: np.ndarray) -> np.ndarray:
    """The medians of the brain everywhere in it: no lesion, no anatomy, and no large error in most of the brain."""
    median = np.median(image.transpose(0, 2, 3, 1)[BRAIN], axis=0)
    return np.where(BRAIN[:, None], median[None, :, None, None], np.float32(0))


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "perfect": lambda image: image,
    "blurred": blurred,
    "shifted": shifted,
    "erased": erased,
    "painted": painted,
    "blank": blank,
}


def without_segmenter(patient: PatientVolumes) -> PatientVolumes:
    return replace(patient, found=None, found_real=None)


def goodness(column: str, value: float) -> float:
    """More is better, whichever way the column runs."""
    return {"higher": value, "lower": -value, "zero": -abs(value)}[str(describe(column).better)]


def order(rows: dict[str, dict[str, float]], column: str) -> str:
    """Such as "perfect > blurred = erased": the copies from good to bad; without those for which it is NaN."""
    good = {name: goodness(column, row[column]) for name, row in rows.items() if not math.isnan(row[column])}
    ranked = sorted(good, key=lambda name: -good[name])
    signs = [" = " if math.isclose(good[a], good[b], abs_tol=1e-9) else " > " for a, b in pairwise(ranked)]
    return "".join(part for pair in zip(ranked, [*signs, ""], strict=True) for part in pair)


def judged(rows: dict[str, dict[str, float]]) -> list[str]:
    """Columns with a better side, that are defined for a copy."""
    columns = next(iter(rows.values()))
    return [c for c in columns if describe(c).better and not all(math.isnan(row[c]) for row in rows.values())]
