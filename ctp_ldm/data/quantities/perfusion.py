"""Maps that perfusion software computes from a CT perfusion series."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ctp_ldm.data.quantities.maps import QuantitativeMap


@dataclass(frozen=True)
class PerfusionMap(QuantitativeMap):
    """A map of one parameter. 0 is a value here: where there is no flow, or no delay."""

    zero_is_outside: ClassVar[bool] = False


@dataclass(frozen=True)
class CBF(PerfusionMap):
    """Cerebral blood flow; 60 in grey and 25 mL/100 g/min in white matter."""

    units: ClassVar[Mapping[str, float]] = {"mL/100 g/min": 1.0, "mL/g/min": 100.0}
    ceiling: ClassVar[float] = 120.0
    typical: ClassVar[tuple[float, float]] = (4.0, 150.0)


@dataclass(frozen=True)
class CBV(PerfusionMap):
    """Cerebral blood volume; 4 in grey and 2 mL/100 g in white matter."""

    units: ClassVar[Mapping[str, float]] = {"mL/100 g": 1.0, "mL/g": 100.0}
    ceiling: ClassVar[float] = 10.0
    typical: ClassVar[tuple[float, float]] = (0.4, 15.0)


@dataclass(frozen=True)
class MTT(PerfusionMap):
    """Mean transit time; 4–5 s in healthy tissue."""

    units: ClassVar[Mapping[str, float]] = {"s": 1.0, "ms": 1e-3}
    ceiling: ClassVar[float] = 20.0
    typical: ClassVar[tuple[float, float]] = (0.8, 30.0)


@dataclass(frozen=True)
class Tmax(PerfusionMap):
    """Time to the maximum of the residue function; below 4 s in healthy tissue, above 6 s in penumbra.

    The median may be 0, so the unit is told by the upper end of the brain.
    """

    units: ClassVar[Mapping[str, float]] = {"s": 1.0, "ms": 1e-3}
    ceiling: ClassVar[float] = 20.0
    typical: ClassVar[tuple[float, float]] = (0.5, 45.0)
    quantile: ClassVar[float] = 0.95
