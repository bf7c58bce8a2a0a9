"""Diffusion MRI: the apparent diffusion coefficient and the weighted image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.fluid import TISSUE_ADC, highest_adc, require_fluid_bright, require_fluid_dark, require_water
from ctp_ldm.data.quantities.base import Quantity
from ctp_ldm.data.quantities.maps import QuantitativeMap
from ctp_ldm.data.volumes import Volume
from ctp_ldm.scaling import Linear


@dataclass(frozen=True)
class ApparentDiffusion(QuantitativeMap):
    """ADC in 10⁻⁶ mm²/s; files in 10⁻⁶, 10⁻³ or 1 mm²/s are told apart by their median in the brain.

    The medians of living brains are 700–1000 × 10⁻⁶ mm²/s, so the three conventions lie a factor 1000 apart. Fluid must
    be brightest, at the ADC of water: a DWI, an exponential ADC and maps of another scale are refused.

    unit: of the file: "1e-6 mm2/s", "1e-3 mm2/s", "mm2/s", or auto.
    """

    units: ClassVar[Mapping[str, float]] = {"1e-6 mm2/s": 1.0, "1e-3 mm2/s": 1e3, "mm2/s": 1e6}
    ceiling: ClassVar[float] = 3000.0
    typical: ClassVar[tuple[float, float]] = (500.0, 1400.0)

    @property
    def scaling(self) -> Linear:
        return Linear("10⁻⁶ mm²/s", 0.0, self.ceiling)

    def convert(self, volume: Volume, brain: np.ndarray, companions: Mapping[str, np.ndarray]) -> np.ndarray:
        require_fluid_bright(volume, brain)
        values = super().convert(volume, brain, companions)
        require_water(volume, values[0], brain)
        return values

    def describe(self, volume: Volume, brain: np.ndarray, values: np.ndarray) -> dict[str, Any]:
        return {**super().describe(volume, brain, values), "highest": highest_adc(values[0], brain)}


@dataclass(frozen=True)
class RelativeDWI(Quantity):
    """DWI (b = 1000 s/mm²) divided by its median over brain with ADC 650–950 × 10⁻⁶ mm²/s, so normal tissue is 1.

    Without an ADC map the median of the whole brain is the reference. With one, fluid must be dark: a b = 0 image is
    refused.

    adc: the role of the ADC map, which is looked at whether or not it is a channel too; None never looks at one (for a
        DWI that is a source where the ADC map is what is synthesised).
    """

    adc: str | None = "adc"

    @property
    def companions(self) -> Mapping[str, Quantity]:
        return {} if self.adc is None else {self.adc: ApparentDiffusion()}

    @property
    def scaling(self) -> Linear:
        return Linear("relative DWI", 0.0, 4.0)

    def convert(self, volume: Volume, brain: np.ndarray, companions: Mapping[str, np.ndarray]) -> np.ndarray:
        tissue = brain
        if self.adc is not None and self.adc in companions:
            adc = companions[self.adc][0]
            require_fluid_dark(volume, adc, brain)
            normal = brain & (adc >= TISSUE_ADC[0]) & (adc <= TISSUE_ADC[1])
            tissue = normal if normal.any() else brain
        median = float(np.median(volume.values[tissue]))
        if not median > 0:
            raise DataFault(
                f"{volume.path} has a median of {median:.3g} in normal brain; expected a positive signal: check that "
                "it is a DWI and that the brain mask fits"
            )
        return (volume.values / np.float32(median)).clip(0.0, None)[None]

    def describe(self, volume: Volume, brain: np.ndarray, values: np.ndarray) -> dict[str, Any]:
        negative = float((volume.values[brain] < 0).mean())
        return {**super().describe(volume, brain, values), "negative": negative}
