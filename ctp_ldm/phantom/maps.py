"""Perfusion maps as a vendor's software computes them from the noisy series, with an arterial input found in it.

    C(t) = kappa * (AIF (x) CBF R)(t)

is solved for the residue function CBF R(t) by truncated singular value decomposition. AIF is a block-circulant matrix:
tissue that fills before the arterial input has its residue at the far end of a cyclic time axis, so delay of either
sign leaves CBF as it is (Wu et al., *Tracer arrival timing-insensitive technique for estimating flow in MR
perfusion-weighted imaging using singular value decomposition with a block-circulant deconvolution matrix*, Magn Reson
Med 2003). Truncation rounds the residue's peak off: CBF of healthy tissue reads about half of the truth and MTT twice,
while noise lifts the peak where flow is low. Tmax is delay and some MTT.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import circulant, svd
from scipy.ndimage import gaussian_filter

from ctp_ldm.phantom.grid import Float, Mask
from ctp_ldm.phantom.haemodynamics import KAPPA

SMOOTHING_MM = 8.0  # full width at half maximum, in-plane
SD_OVER_FWHM = 1 / (8 * np.log(2)) ** 0.5
INTERVAL_S = 1.0
SINGULAR_THRESHOLD = 0.2  # of the largest value; a lower one trades bias of CBF for noise

LEAST_RISE_HU = 1.0  # of the brain's mean curve, which a good bolus raises by 4-6 HU: less is none
ONSET = 0.05  # of its highest rise

VESSELS = 0.005  # part of the brain's voxels that may be large vessels
INPUT_ML = 0.1  # part of these that is averaged to a curve

LAGS_S = (-5, 30)  # of tissue behind the arterial input; what peaks outside is noise
MOST_CBF, MOST_CBV, MOST_MTT_S = 200.0, 20.0, 30.0


class PerfusionMaps(NamedTuple):
    """Maps (X, Y, Z), 0 outside the brain and where nothing flows.

    cbf: blood flow in mL/100 g/min, 0 to 200.
    cbv: blood volume in mL/100 g, 0 to 20.
    mtt: mean transit time in s, 0 to 30.
    tmax: time to the maximum of the residue function in s, 0 to 30.
    """

    cbf: Float
    cbv: Float
    mtt: Float
    tmax: Float


def perfusion_maps(series: np.ndarray, times: ArrayLike, spacing: ArrayLike, brain: Mask) -> PerfusionMaps:
    """Computes the maps of one scan; all 0 if no bolus passes through the brain.

    Args:
        series: (X, Y, Z, T) in HU, integer or float, finite.
        times: (T,) of the frames in s, at any intervals.
        spacing: (3,) voxel edges in mm; the first two lie in-plane.
        brain: (X, Y, Z) where to compute, vessels included.

    Raises:
        ValueError: shapes disagree, or times do not increase.
    """
    times, spacing = np.asarray(times, np.float64), np.asarray(spacing, np.float64)
    shape = (*brain.shape, times.size)
    if series.shape != shape:
        raise ValueError(f"series: found shape {series.shape}, expected {shape}, as brain and times have it")
    if np.any(np.diff(times) <= 0):
        raise ValueError(f"times: found {times.tolist()}, expected increasing ones")
    maps = PerfusionMaps(*(np.zeros(brain.shape, np.float32) for _ in PerfusionMaps._fields))
    if not brain.any():
        return maps
    # Gathered by frames, for these are contiguous in a file, not the curves.
    curves = np.stack([series[..., i][brain] for i in range(times.size)]).astype(np.float32)
    mean = curves.mean(axis=1)
    if mean.max() - mean[0] < LEAST_RISE_HU:
        return maps
    curves -= curves[: _frames_before_contrast(mean)].mean(axis=0)

    seconds = np.arange(times[0], times[-1] + 1e-6, INTERVAL_S)
    resample = np.stack([np.interp(seconds, times, frame) for frame in np.eye(times.size)], axis=1)
    arterial = arterial_input(curves, resample, spacing.prod() / 1000)
    if not arterial.any():
        return maps
    # From here on all is linear in the curves: one matrix serves all voxels.
    curves = _smooth(curves, spacing, brain)
    lags, inverse = _deconvolution(arterial)
    residue = (inverse @ resample).astype(np.float32) @ curves
    cbf = residue.max(axis=0)
    # Areas of the whole scan: recirculation is part of both, and where a first pass ends depends on delay and MTT.
    area = resample.sum(axis=0) / (60 * KAPPA * arterial.sum())
    cbv = area.astype(np.float32) @ curves
    flows = (cbf > 0) & (cbv > 0)
    mtt = 60 * cbv / np.where(flows, cbf, 1)
    tmax = lags[residue.argmax(axis=0)]
    limits = (MOST_CBF, MOST_CBV, MOST_MTT_S, LAGS_S[1])
    for image, values, most in zip(maps, (cbf, cbv, mtt, tmax), limits, strict=True):
        image[brain] = np.where(flows, values, 0).clip(0, most)
    return maps


def _frames_before_contrast(mean: Float) -> int:
    """Number of frames before the brain's mean curve (T,) rises, at least one."""
    rise = mean - mean[0]
    # The frame before the threshold is passed holds a little contrast already, in the arteries at least.
    return max(1, int(np.argmax(rise > ONSET * rise.max())) - 1)


def arterial_input(curves: Float, resample: NDArray[np.float64], voxel_ml: float) -> NDArray[np.float64]:
    """The arterial input found among the brain's curves, (S,) in HU.

    High, narrow curves that peak before the brain's mean are arterial; curves of large area that peak after it are
    venous. Arteries are thinner than a voxel and the sagittal sinus is not, but what flows in flows out: the arterial
    curve is raised to the venous area.

    Args:
        curves: (T, N) enhancement of the brain's voxels in HU.
        resample: (S, T) from the scan's frames to steps of INTERVAL_S.
        voxel_ml: volume of a voxel in mL.
    """
    turn = (resample @ curves.mean(axis=1)).argmax()
    vessels = resample @ curves[:, _highest(curves.max(axis=0), VESSELS * curves.shape[1])]
    peak, height, area = vessels.argmax(axis=0), vessels.max(axis=0), vessels.sum(axis=0)
    width = np.maximum(1, np.count_nonzero(vessels > height / 2, axis=0))

    def mean_of_highest(rank: NDArray[np.floating]) -> NDArray[np.float64]:
        return vessels[:, _highest(rank, INPUT_ML / voxel_ml)].mean(axis=1).clip(0)

    arterial = mean_of_highest(np.where(peak <= turn, height / width, 0))
    venous = mean_of_highest(np.where(peak > turn, area, 0))
    return arterial * max(1.0, venous.sum() / (arterial.sum() or 1.0))


def _highest(values: NDArray[np.floating], count: float) -> NDArray[np.intp]:
    """Where the `count` highest values (N,) are; at least one."""
    count = int(np.clip(round(count), 1, values.size))
    return np.argpartition(values, -count)[-count:]


def _smooth(curves: Float, spacing: NDArray[np.float64], brain: Mask) -> Float:
    """Curves (T, N) smoothed in-plane within the brain: what lies outside has no weight."""
    sigma = [*SMOOTHING_MM * SD_OVER_FWHM / spacing[:2], 0]
    weight = gaussian_filter(brain.astype(np.float32), sigma, mode="constant")[brain]
    image = np.zeros(brain.shape, np.float32)
    smooth = np.empty_like(curves)
    for frame, out in zip(curves, smooth, strict=True):
        image[brain] = frame
        out[:] = gaussian_filter(image, sigma, mode="constant")[brain] / weight
    return smooth


def _deconvolution(arterial: NDArray[np.float64]) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """Lags (L,) in s, and the matrix (L, T) that makes residue functions at them, in mL/100 g/min, from curves in HU.

    The cyclic time axis is twice as long as the scan, so that the end of a curve does not run into its beginning;
    negative lags are its last rows.
    """
    length = arterial.size
    u, s, vt = svd(KAPPA * INTERVAL_S * circulant(np.pad(arterial, (0, length))))
    kept = s > SINGULAR_THRESHOLD * s[0]
    inverse = vt[kept].T / s[kept] @ u[:, kept].T
    steps = np.arange(-length, length)
    lags = steps * INTERVAL_S
    sought = (lags >= LAGS_S[0]) & (lags <= LAGS_S[1])
    return lags[sought], inverse[steps[sought], :length]
