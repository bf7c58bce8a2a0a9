"""Does the spread of several samples say where a synthetic image is wrong, and by how much?"""

import math

import numpy as np
from scipy import stats

from ctp_ldm.metrics.volumes import PatientVolumes


def uncertainty_metrics(volumes: PatientVolumes) -> dict[str, float]:
    """For each target c; nothing for volumes without `deviation`.

    uncertainty_rank_c          Spearman's rank correlation of deviation and |error| over brain voxels; NaN where
                                either is the same everywhere
    uncertainty_coverage_c      share of brain voxels with |error| ≤ 1.96 · deviation: 0.95 for normal errors of
                                which the deviation is the standard deviation
    """
    result: dict[str, float] = {}
    for channel, (deviation, error) in _brain_voxels(volumes).items():
        constant = np.ptp(deviation) == 0 or np.ptp(error) == 0
        result[f"uncertainty_rank_{channel}"] = (
            math.nan if constant else float(stats.spearmanr(deviation, error).statistic)
        )
        result[f"uncertainty_coverage_{channel}"] = float((error <= 1.96 * deviation).mean())
    return result


def calibration_curve(volumes: PatientVolumes, bins: int = 10) -> dict[str, list[tuple[float, float]]]:
    """For each target: (deviation, error) of `bins` equal shares of the brain voxels, from certain to uncertain.

    Both are roots of the mean of squares over the bin's voxels, in the channel's unit, because a calibrated deviation
    is one whose square is the mean squared error: the curve is then the diagonal (Levi et al. 2022). Brains of fewer
    voxels have fewer bins. Empty for volumes without `deviation`.
    """
    curves = {}
    for channel, (deviation, error) in _brain_voxels(volumes).items():
        shares = np.array_split(np.argsort(deviation, kind="stable"), min(bins, len(deviation)))
        curves[channel] = [(_root_mean_square(deviation[share]), _root_mean_square(error[share])) for share in shares]
    return curves


def _brain_voxels(volumes: PatientVolumes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Target → deviation and |error| of its brain voxels."""
    if volumes.deviation is None:
        return {}
    error = abs(volumes.synthetic.astype(float) - volumes.real)
    deviation = volumes.deviation.astype(float)
    return {c: (deviation[:, i][volumes.brain], error[:, i][volumes.brain]) for i, c in enumerate(volumes.targets)}


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
