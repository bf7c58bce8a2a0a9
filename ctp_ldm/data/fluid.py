"""Fluid in diffusion MRI: brightest where the ADC is shown, at the value of free water, and dark in a DWI."""

import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.volumes import Volume

FAR_ABOVE, FAR_BELOW, NOTHING = 1.8, 0.4, 0.03
"""Times the median. Fluid has 3.5 times the ADC of tissue, and an infarct not less than 0.4 times it."""
PURE = 2.5
LEAST_SHARE = 0.005
WATER = (1700.0, 3700.0)
"""10⁻⁶ mm²/s: free water at body temperature has 3000; less of it beside tissue, and more in noise."""
FLUID_ADC, TISSUE_ADC = 2000.0, (650.0, 950.0)
DARK = 0.9
"""Times tissue. At b = 1000 s/mm² fluid has 0.1 to 0.6; at b = 0 it is 1.5 to 4 times as bright as tissue."""


def require_fluid_bright(volume: Volume, brain: np.ndarray) -> None:
    """Refuse as an ADC map what shows fluid dark, whatever its unit.

    Voxels without signal have no say, nor do maps in which hardly any fluid is seen.

    Args:
        volume: the file, (X, Y, Z).
        brain: (X, Y, Z) bool.

    Raises:
        DataFault: it is a DWI or exponential.
    """
    inside = _with_signal(volume.values, brain)
    if not inside.size:
        return
    median = float(np.median(inside))
    above = float((inside > FAR_ABOVE * median).mean())
    below = float(((inside < FAR_BELOW * median) & (inside > NOTHING * median)).mean())
    low, high = (float(q) for q in np.quantile(inside, [LEAST_SHARE, 1 - LEAST_SHARE]))
    # Where voxels are too large for pure fluid, the longer tail is still on its side.
    if below > max(LEAST_SHARE, above) or (high < FAR_ABOVE * median and high * low < median**2):
        raise DataFault(
            f"{volume.path} reaches down to {low / median:.2g} and up to {high / median:.2g} times its median (lowest "
            f"and highest {LEAST_SHARE:.1%} of the brain); expected an ADC map, in which fluid is by far brightest: "
            "it is a DWI or an exponential ADC; check that files are not swapped"
        )


def require_water(volume: Volume, adc: np.ndarray, brain: np.ndarray) -> None:
    """Refuse an ADC map of another scale, which shows fluid at an ADC that water has not.

    Args:
        volume: the file, for its name.
        adc: (X, Y, Z), 10⁻⁶ mm²/s.
        brain: (X, Y, Z) bool.

    Raises:
        DataFault: where enough voxels are fluid, they have the wrong ADC.
    """
    inside = _with_signal(adc, brain)
    median = float(np.median(inside)) if inside.size else 0.0
    fluid = inside[inside > PURE * median]
    if fluid.size < max(1.0, LEAST_SHARE * inside.size):
        return
    level = float(np.median(fluid))
    if not WATER[0] <= level <= WATER[1]:
        raise DataFault(
            f"{volume.path} has an ADC of {level:.0f} × 10⁻⁶ mm²/s in fluid and {median:.0f} in the brain; expected "
            f"{WATER[0]:.0f}–{WATER[1]:.0f} and about 800: its scale is wrong; repair the header's scl_slope, or state "
            "its unit with data.units"
        )


def highest_adc(adc: np.ndarray, brain: np.ndarray) -> float:
    """What the highest 0.5 % of the brain exceed, 10⁻⁶ mm²/s: fluid, wherever there is any; 0 without signal."""
    inside = _with_signal(adc, brain)
    return float(np.quantile(inside, 1 - LEAST_SHARE)) if inside.size else 0.0


def fluid_to_tissue(dwi: np.ndarray, adc: np.ndarray, brain: np.ndarray) -> float | None:
    """How bright fluid is in a DWI, times normal brain: 0.1–0.6 at b = 1000 s/mm².

    Args:
        dwi: (X, Y, Z), of any gain; 0 outside the image.
        adc: (X, Y, Z), 10⁻⁶ mm²/s, of the same patient, by which fluid and tissue are told.
        brain: (X, Y, Z) bool.

    Returns:
        The ratio of their medians; None where hardly any of one is seen, or tissue has no signal.
    """
    seen = brain & (dwi != 0)
    fluid, tissue = (dwi[seen & where] for where in (adc > FLUID_ADC, (adc >= TISSUE_ADC[0]) & (adc <= TISSUE_ADC[1])))
    if min(fluid.size, tissue.size) < max(1.0, LEAST_SHARE * seen.sum()):
        return None
    normal = float(np.median(tissue))
    return float(np.median(fluid)) / normal if normal > 0 else None


def require_fluid_dark(volume: Volume, adc: np.ndarray, brain: np.ndarray) -> None:
    """Refuse as a DWI what shows fluid as bright as tissue.

    Args:
        volume: the DWI, (X, Y, Z).
        adc: (X, Y, Z), 10⁻⁶ mm²/s, of the same patient, by which fluid and tissue are told.
        brain: (X, Y, Z) bool.

    Raises:
        DataFault: it is an image without diffusion weighting, such as the b = 0 image, or an ADC map.
    """
    ratio = fluid_to_tissue(volume.values, adc, brain)
    if ratio is not None and ratio > DARK:
        raise DataFault(
            f"{volume.path} is {ratio:.2g} times as bright in fluid as in normal brain (by the ADC map); "
            f"expected a DWI, below {DARK:g}: it is the b = 0 image, a T2-weighted image or an ADC map; give the image "
            "of b = 1000 s/mm²"
        )


def _with_signal(values: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """(N,) values in the brain that are no hole in the image."""
    inside = values[brain]
    return np.asarray(inside[inside > NOTHING * max(float(np.median(inside)), 0.0)])
