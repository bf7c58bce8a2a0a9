"""Maps of one physical quantity, whose files come in different units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctp_ldm.data.quantities.base import Quantity
from ctp_ldm.data.units import AUTO, unit_factor
from ctp_ldm.data.volumes import Volume
from ctp_ldm.scaling import Linear


@dataclass(frozen=True)
class QuantitativeMap(Quantity):
    """0 … `ceiling` of the first unit ↦ [−1, 1]; negative values are noise and become 0.

    unit: of the file, or auto: told by what living brains have.
    """

    unit: str = AUTO
    units: ClassVar[Mapping[str, float]]
    """Name → factor to the first of them."""
    ceiling: ClassVar[float]
    typical: ClassVar[tuple[float, float]]
    """Plausible values of `quantile` in the brain, in the first unit."""
    quantile: ClassVar[float] = 0.5

    @property
    def scaling(self) -> Linear:
        return Linear(next(iter(self.units)), 0.0, self.ceiling)

    def convert(self, volume: Volume, brain: np.ndarray, companions: Mapping[str, np.ndarray]) -> np.ndarray:
        _, factor = self._unit(volume, brain)
        return (volume.values * np.float32(factor)).clip(0.0, None)[None]

    def describe(self, volume: Volume, brain: np.ndarray, values: np.ndarray) -> dict[str, Any]:
        return {"unit": self._unit(volume, brain)[0], **super().describe(volume, brain, values)}

    def _unit(self, volume: Volume, brain: np.ndarray) -> tuple[str, float]:
        seen = brain & (volume.values != 0) if self.zero_is_outside else brain
        return unit_factor(volume, seen if seen.any() else brain, self.units, self.typical, self.unit, self.quantile)
