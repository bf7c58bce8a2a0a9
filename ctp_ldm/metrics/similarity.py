"""PSNR, SSIM and MS-SSIM as every metric and table of the project defines them."""

import math

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

WINDOW = 11
WANG_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def psnr(mean_square: float, span: float) -> float:
    """10 log10(span² / mean squared error), dB.

    A perfect image would have an infinite PSNR; 120 dB says as much and stays a number.
    """
    return 10 * math.log10(span**2 / max(mean_square, 1e-12 * span**2))


def ssim_map(synthetic: np.ndarray, real: np.ndarray, span: float) -> np.ndarray:
    """SSIM of each pixel (Wang et al. 2004; Gaussian 11 × 11, σ 1.5), slice by slice, reflected at the borders.

    `PatientMetrics` has torchmetrics compute the same map where its batches are. For whole volumes in memory
    scikit-image does it a hundred times as fast, once the border is reflected as torchmetrics reflects it.

    Args:
        synthetic, real: (Z, H, W) float64.
        span: the data range.
    """
    reach = WINDOW // 2
    pairs = [[np.pad(image, reach, mode="reflect") for image in pair] for pair in zip(synthetic, real, strict=True)]
    maps = [
        structural_similarity(
            one, other, data_range=span, full=True, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )[1]
        for one, other in pairs
    ]
    return np.stack(maps)[:, reach:-reach, reach:-reach]


def ms_ssim_scales(size: tuple[int, int]) -> int:
    """How many of the five scales of MS-SSIM fit into a picture of (H, W) pixels: 5 from 176 on, 4 from 99, 3 from 44,
    2 from 12, 1 from 11, 0 below. torchmetrics sets these bounds, and the last window must not exceed the picture."""
    side = min(size)
    fit = [n for n in range(1, 6) if side // max(1, n - 1) ** 2 >= WINDOW and side >> (n - 1) > WINDOW // 2]
    return max(fit, default=0)


def ms_ssim(synthetic: np.ndarray, real: np.ndarray, brain: np.ndarray, span: float) -> float:
    """Multi-scale SSIM (Wang et al. 2003) of a volume's slices.

    Outside the brain both images are set to 0, so that only the brain can differ. Slices count by their brain voxels,
    because an almost empty slice is almost perfect. Of the weights 0.0448, 0.2856, 0.3001, 0.2363, 0.1333, from fine to
    coarse, as many as there are scales are used, scaled to the sum of all five, so that a similarity that is the same
    at all scales keeps its value. NaN where not one scale fits.

    Args:
        synthetic, real: (Z, H, W).
        brain: (Z, H, W) bool, not empty.
        span: the data range.
    """
    height, width = brain.shape[1:]
    weights = WANG_WEIGHTS[: ms_ssim_scales((height, width))]
    if not weights:
        return math.nan
    voxels = brain.sum(axis=(1, 2))
    slices = voxels > 0
    # Single precision is exact to 1e-6 once values are in units of the span; double takes twenty times as long.
    one, other = (torch.from_numpy((image * brain)[slices, None] / span).float() for image in (synthetic, real))
    values = multiscale_structural_similarity_index_measure(
        one,
        other,
        data_range=1.0,
        betas=tuple(w * sum(WANG_WEIGHTS) / sum(weights) for w in weights),
        reduction="none",
    )
    return float(np.average(values.double().numpy(), weights=voxels[slices]))
