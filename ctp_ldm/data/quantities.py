"""What the numbers in a file mean: from a file's values to named channels in physical units."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.phases import baseline_and_phases
from ctp_ldm.data.volumes import Volume
from ctp_ldm.scaling import Linear, Scaling, SymmetricLog
from ctp_ldm.spec import Channel

REFERENCE_ADC = (650.0, 950.0)
ADC_CEILING = 3000.0


@dataclass(frozen=True)
class Quantity(ABC):
    """One file of a case: which channels it makes and how its values become physical ones."""

    @property
    def dimensions(self) -> int:
        """Of the file: 3, or 4 for a time series."""
        return 3

    def channels(self, role: str) -> tuple[Channel, ...]:
        """Names and scalings of the channels, in order; one channel named after the file's role unless overridden."""
        return (Channel(role, self.scaling),)

    @property
    @abstractmethod
    def scaling(self) -> Scaling:
        """The scaling of the (single) channel."""

    @abstractmethod
    def convert(self, role: str, volumes: Mapping[str, Volume], brain: np.ndarray) -> np.ndarray:
        """Physical values.

        Args:
            role: which of `volumes` to convert.
            volumes: all volumes of the case, on one grid.
            brain: (X, Y, Z) bool.

        Returns:
            (C, X, Y, Z) float32 in the units of `channels`.

        Raises:
            DataFault: the values cannot mean what they should.
        """


@dataclass(frozen=True)
class Intensity(Quantity):
    """Values that are in a physical unit already: [low, high] ↦ [−1, 1]."""

    low: float = 0.0
    high: float = 1.0
    unit: str = "a.u."

    @property
    def scaling(self) -> Linear:
        return Linear(self.unit, self.low, self.high)

    def convert(self, role: str, volumes: Mapping[str, Volume], brain: np.ndarray) -> np.ndarray:
        return volumes[role].values[None]


@dataclass(frozen=True)
class RobustRange(Quantity):
    """Arbitrary units: the in-brain quantiles of the volume itself become 0 and 1.

    What a model with such a target synthesises is in these relative units; no patient's own range is put back.
    """

    lower: float = 0.005
    upper: float = 0.995

    @property
    def scaling(self) -> Linear:
        return Linear("robust range", 0.0, 1.0)

    def convert(self, role: str, volumes: Mapping[str, Volume], brain: np.ndarray) -> np.ndarray:
        values = volumes[role].values
        low, high = np.quantile(values[brain], [self.lower, self.upper])
        if not high > low:
            raise DataFault(f"{volumes[role].path} is constant inside the brain ({low:g}); expected an image")
        return ((values - low) / (high - low)).astype(np.float32)[None]


@dataclass(frozen=True)
class CTPerfusion(Quantity):
    """4D CT perfusion: the mean before contrast, and the enhancement of each phase.

    White matter enhances by 3–5 HU, 2 % of the published linear range of 0–200 HU; the logarithm keeps it visible
    beside arteries.

    phases: number of phases, at `interval` seconds from one another.
    baseline: seconds from the first frame that count as before contrast.
    """

    phases: int = 15
    interval: float = 3.0
    baseline: float = 3.0

    @property
    def dimensions(self) -> int:
        return 4

    @property
    def scaling(self) -> SymmetricLog:
        return SymmetricLog("HU", knee=5.0, limit=200.0)

    def channels(self, role: str) -> tuple[Channel, ...]:
        phases = tuple(Channel(f"{role}_{i:02d}", self.scaling) for i in range(1, self.phases + 1))
        return (Channel(f"{role}_baseline", Linear("HU", 0.0, 80.0)), *phases)

    def convert(self, role: str, volumes: Mapping[str, Volume], brain: np.ndarray) -> np.ndarray:
        series = volumes[role]
        if series.times is None:
            raise ValueError(f"{series.path} was read without frame times")
        before, enhancement = baseline_and_phases(
            series.values, series.times, self.phases, self.interval, self.baseline
        )
        return np.concatenate([before[None], enhancement])


@dataclass(frozen=True)
class ApparentDiffusion(Quantity):
    """ADC in 10⁻⁶ mm²/s; files in 10⁻⁶, 10⁻³ or 1 mm²/s are told apart by their median in the brain.

    The medians of living brains are 700–1000 × 10⁻⁶ mm²/s, so the three conventions lie a factor 1000 apart.
    """

    @property
    def scaling(self) -> Linear:
        return Linear("10⁻⁶ mm²/s", 0.0, ADC_CEILING)

    def convert(self, role: str, volumes: Mapping[str, Volume], brain: np.ndarray) -> np.ndarray:
        volume = volumes[role]
        median = float(np.median(volume.values[brain]))
        for factor in (1.0, 1e3, 1e6):
            if 300.0 <= median * factor <= 2000.0:
                return (volume.values * factor).clip(0.0, None).astype(np.float32)[None]
        raise DataFault(
            f"{volume.path} has a median of {median:.3g} in the brain; expected 300–2000 in 10⁻⁶ mm²/s, 0.3–2 in 10⁻³ "
            "or 0.0003–0.002 in mm²/s: check that it is an ADC map and that the brain mask fits"
        )


@dataclass(frozen=True)
class RelativeDWI(Quantity):
    """DWI (b = 1000 s/mm²) divided by its median over brain with ADC 650–950 × 10⁻⁶ mm²/s, so normal tissue is 1.

    Without an ADC map the median of the whole brain is the reference.

    adc: the role of the ADC map.
    """

    adc: str = "adc"

    @property
    def scaling(self) -> Linear:
        return Linear("relative DWI", 0.0, 4.0)

    def convert(self, role: str, volumes: Mapping[str, Volume], brain: np.ndarray) -> np.ndarray:
        volume = volumes[role]
        reference = brain
        if self.adc in volumes:
            adc = ApparentDiffusion().convert(self.adc, volumes, brain)[0]
            normal = brain & (adc >= REFERENCE_ADC[0]) & (adc <= REFERENCE_ADC[1])
            reference = normal if normal.any() else brain
        median = float(np.median(volume.values[reference]))
        if not median > 0:
            raise DataFault(
                f"{volume.path} has a median of {median:.3g} in normal brain; expected a positive signal: check that "
                "it is a DWI and that the brain mask fits"
            )
        return (volume.values / median).clip(0.0, None).astype(np.float32)[None]
