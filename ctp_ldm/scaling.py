"""Invertible scalings between physical units and the network's range [−1, 1]."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch

Array = TypeVar("Array", np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class Scaling(ABC):
    """A fixed, monotone, invertible map of physical values onto [−1, 1]; it never looks at a patient's image.

    `encode` clips what lies outside the range; `decode(encode(x)) == x` for every x inside it. Both take numpy arrays
    and tensors of any shape.
    """

    unit: str
    kind: ClassVar[str]

    @abstractmethod
    def encode(self, values: Array) -> Array:
        """Physical values → [−1, 1]."""

    @abstractmethod
    def decode(self, encoded: Array) -> Array:
        """[−1, 1] → physical values."""

    @property
    def span(self) -> float:
        """Width of the physical range, in `unit`: the data range of PSNR and SSIM."""
        low, high = self.decode(np.array([-1.0, 1.0]))
        return float(high - low)

    @property
    def background(self) -> float:
        """Where physical 0, which is what lies outside the brain, is in [−1, 1]."""
        return float(self.encode(np.array(0.0)))

    def to_plain(self) -> dict[str, Any]:
        """Plain data for manifests and checkpoints; `scaling_from_plain` reads it back."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Linear(Scaling):
    """[low, high] in `unit` ↦ [−1, 1]."""

    low: float = 0.0
    high: float = 1.0
    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Linear scaling needs low < high, found low={self.low}, high={self.high}")

    def encode(self, values: Array) -> Array:
        return ((values - self.low) * (2.0 / (self.high - self.low)) - 1.0).clip(-1.0, 1.0)

    def decode(self, encoded: Array) -> Array:
        return (encoded + 1.0) * ((self.high - self.low) / 2.0) + self.low


@dataclass(frozen=True)
class SymmetricLog(Scaling):
    """sign(x) · log1p(|x| / knee) / log1p(limit / knee): [−limit, limit] ↦ [−1, 1].

    Contrast enhancement spans 3 HU (white matter) to 400 HU (arteries): linear below the knee, logarithmic above it,
    both stay visible.
    """

    knee: float = 1.0
    limit: float = 100.0
    kind: ClassVar[str] = "symmetric_log"

    def __post_init__(self) -> None:
        if not (self.knee > 0 and self.limit > 0):
            raise ValueError(f"SymmetricLog needs knee > 0 and limit > 0, found {self.knee} and {self.limit}")

    def encode(self, values: Array) -> Array:
        magnitude = abs(values) / self.knee
        logarithm = torch.log1p(magnitude) if isinstance(magnitude, torch.Tensor) else np.log1p(magnitude)
        return (_sign(values) * logarithm / float(np.log1p(self.limit / self.knee))).clip(-1.0, 1.0)

    def decode(self, encoded: Array) -> Array:
        exponent = abs(encoded) * float(np.log1p(self.limit / self.knee))
        magnitude = torch.expm1(exponent) if isinstance(exponent, torch.Tensor) else np.expm1(exponent)
        return _sign(encoded) * magnitude * self.knee


def _sign(values: Array) -> Array:
    return torch.sign(values) if isinstance(values, torch.Tensor) else np.sign(values)


_KINDS: dict[str, type[Scaling]] = {cls.kind: cls for cls in (Linear, SymmetricLog)}


def scaling_from_plain(plain: dict[str, Any]) -> Scaling:
    """Rebuild a scaling from `Scaling.to_plain`.

    Raises:
        ValueError: the kind is unknown.
    """
    fields = dict(plain)
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"unknown scaling kind {kind!r}; expected one of {sorted(_KINDS)}")
    return _KINDS[kind](**fields)
