"""One patient's synthetic image against the real one, in physical units."""

import math
from collections.abc import Sequence

import numpy as np

from ctp_ldm.metrics.lesions import dice
from ctp_ldm.metrics.regions import mirrored, rim
from ctp_ldm.metrics.similarity import ms_ssim, ms_ssim_scales, psnr, ssim_map
from ctp_ldm.metrics.volumes import PatientVolumes

LOW_ADC = 620.0


def image_metrics(volumes: PatientVolumes, spans: Sequence[float]) -> dict[str, float]:
    """Errors of each target channel c. NaN: not defined for this patient.

        brain_mae_c             mean |error| over brain voxels, in the channel's unit
        psnr_c                  10 log10(span² / mean squared error over brain voxels), dB
        ssim_c                  mean over brain voxels of each slice's SSIM map (Wang 2004)
        ms_ssim_c               multi-scale SSIM (Wang 2003), slices weighted by their brain voxels: `ms_ssim`
        lesion_mae_c            mean |error| over lesion voxels in the brain; NaN without lesion
        lesion_bias_c           mean error, synthetic − real, there; NaN without lesion
        tissue_mae_c            mean |error| in the brain that is neither lesion nor fluid (real ADC of 1500 and more);
                                only where a target is named "adc"
        rim_mae_c               mean |error| in the brain within 10 mm of the lesion, outside it; NaN if there is none
        ms_ssim_scales          how many of the five scales fit into the slices

    brain_mae_c, psnr_c, ssim_c and lesion_mae_c are those of `PatientMetrics`. For a target named "dwi":

        dwi_ratio_real          median over the lesion / median over its mirror image in the brain, outside the lesion;
        dwi_ratio_synthetic     the same places on the synthetic image; NaN without lesion, without such a place on
                                the other side, or where the median there is not positive
        dwi_ratio_error         synthetic − real

    For a target named "adc", which says where tissue is low in ADC, not where infarct is (Gosch 2023):

        adc620_dice             Dice of ADC ≤ 620 × 10⁻⁶ mm²/s in the brain, synthetic against real; both empty 1
        adc620_ml_error         difference of the two volumes, synthetic − real, mL

    Args:
        volumes: with a brain mask that is not empty; where `lesion` is None, what needs a lesion is NaN.
        spans: width of each target's physical range, the data range of PSNR and SSIM.

    Raises:
        ValueError: not as many spans as targets.
    """
    brain = volumes.brain
    lesion = np.zeros_like(brain) if volumes.lesion is None else volumes.lesion & brain
    healthy = volumes.tissue & ~lesion
    near = rim(lesion, volumes.spacing) & brain
    opposite = mirrored(lesion, brain) & brain & ~lesion
    real, synthetic = volumes.real.astype(float), volumes.synthetic.astype(float)
    result: dict[str, float] = {}
    for i, (channel, span) in enumerate(zip(volumes.targets, spans, strict=True)):
        pair = synthetic[:, i], real[:, i]
        error = pair[0] - pair[1]
        result |= {
            f"brain_mae_{channel}": _mean(abs(error), brain),
            f"psnr_{channel}": psnr(_mean(error**2, brain), span),
            f"ssim_{channel}": _mean(ssim_map(*pair, span), brain),
            f"ms_ssim_{channel}": ms_ssim(*pair, brain, span),
            f"lesion_mae_{channel}": _mean(abs(error), lesion),
            f"lesion_bias_{channel}": _mean(error, lesion),
            f"rim_mae_{channel}": _mean(abs(error), near),
        }
        if "adc" in volumes.targets:
            result[f"tissue_mae_{channel}"] = _mean(abs(error), healthy)
        if channel == "dwi":
            ratios = [_ratio(image[:, i], lesion, opposite) for image in (real, synthetic)]
            names = ("dwi_ratio_real", "dwi_ratio_synthetic", "dwi_ratio_error")
            result |= dict(zip(names, [*ratios, ratios[1] - ratios[0]], strict=True))
        if channel == "adc":
            low = [(image[:, i] <= LOW_ADC) & brain for image in (real, synthetic)]
            result["adc620_dice"] = dice(*low)
            result["adc620_ml_error"] = float(low[1].sum() - low[0].sum()) * volumes.voxel_ml
    height, width = brain.shape[1:]
    return {**result, "ms_ssim_scales": float(ms_ssim_scales((height, width)))}


def _mean(values: np.ndarray, where: np.ndarray) -> float:
    return float(values[where].mean()) if where.any() else math.nan


def _ratio(image: np.ndarray, lesion: np.ndarray, opposite: np.ndarray) -> float:
    if not (lesion.any() and opposite.any()):
        return math.nan
    normal = float(np.median(image[opposite]))
    return float(np.median(image[lesion])) / normal if normal > 0 else math.nan
