"""What the numbers in a file mean: from a file's values to named channels in physical units."""

from ctp_ldm.data.quantities.base import Intensity, Quantity, RobustRange
from ctp_ldm.data.quantities.ct import CTPerfusion, NonContrastCT, PublishedCTPerfusion
from ctp_ldm.data.quantities.diffusion import ApparentDiffusion, RelativeDWI
from ctp_ldm.data.quantities.maps import QuantitativeMap
from ctp_ldm.data.quantities.perfusion import CBF, CBV, MTT, PerfusionMap, Tmax

__all__ = [
    "CBF",
    "CBV",
    "MTT",
    "ApparentDiffusion",
    "CTPerfusion",
    "Intensity",
    "NonContrastCT",
    "PerfusionMap",
    "PublishedCTPerfusion",
    "QuantitativeMap",
    "Quantity",
    "RelativeDWI",
    "RobustRange",
    "Tmax",
]
