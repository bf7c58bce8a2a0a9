"""What every quantity can do, and the two that fit any modality."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctp_ldm.data.brain import foreground_mask
from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.volumes import Volume
from ctp_ldm.scaling import Linear, Scaling
from ctp_ldm.spec import Channel


class Quantity(ABC):
    """One file of a case: which channels it makes and how its values become physical ones.

    A subclass is a frozen dataclass, so that `repr` says all that decides the values. One whose unit can be stated has
    a field `unit`, "auto" by default.
    """

    zero_is_outside: ClassVar[bool] = True
    """Whether voxels that are exactly 0 lie outside what was scanned."""
    unit_by_agreement: ClassVar[bool] = False
    """Whether a file that does not tell its unit takes that of the data set's other files. Not where the unit is told
    by what living brains have: there a misfit is a wrong file."""

    @property
    def dimensions(self) -> int:
        """Of the file: 3, or 4 for a time series."""
        return 3

    @property
    def companions(self) -> Mapping[str, "Quantity"]:
        """Files of other roles that `convert` looks at where they exist: role → what they hold."""
        return {}

    def channels(self, role: str) -> tuple[Channel, ...]:
        """Names and scalings of the channels, in order; one channel named after the file's role unless overridden."""
        return (Channel(role, self.scaling),)

    @property
    @abstractmethod
    def scaling(self) -> Scaling:
        """The scaling of the (single) channel."""

    def calibrate(self, volume: Volume) -> Volume:
        """Bring a file to its unit where its values alone tell it, before anyone knows where the brain is.

        Raises:
            DataFault: they do not tell it.
        """
        return volume

    def find_brain(self, volume: Volume) -> np.ndarray:
        """(X, Y, Z) bool: the brain in a calibrated volume, for cases that bring no mask; the foreground.

        Raises:
            DataFault: none is found.
        """
        return foreground_mask(volume.values if volume.values.ndim == 3 else volume.values.mean(axis=-1))

    @abstractmethod
    def convert(self, volume: Volume, brain: np.ndarray, companions: Mapping[str, np.ndarray]) -> np.ndarray:
        """Physical values.

        Args:
            volume: calibrated.
            brain: (X, Y, Z) bool, not empty.
            companions: physical values (C, X, Y, Z) of those companions that the case has.

        Returns:
            (C, X, Y, Z) float32 in the units of `channels`.

        Raises:
            DataFault: the values cannot mean what they should.
        """

    def noise(self, volume: Volume) -> np.ndarray | None:
        """(X, Y, Z) float32: noise as a single frame of a calibrated file has it, without the head; None where the file
        does not show it apart."""
        return None

    def describe(self, volume: Volume, brain: np.ndarray, values: np.ndarray) -> dict[str, Any]:
        """What `ctp-ldm check` reports of a file: plain numbers and words.

        Args:
            volume, brain: as in `convert`.
            values: what `convert` made of them.
        """
        low, median, high = (float(q) for q in np.percentile(values[0][brain], [1, 50, 99]))
        return {"p1": low, "median": median, "p99": high}


@dataclass(frozen=True)
class Intensity(Quantity):
    """Values that are in a physical unit already: [low, high] ↦ [−1, 1]."""

    low: float = 0.0
    high: float = 1.0
    physical_unit: str = "a.u."

    @property
    def scaling(self) -> Linear:
        return Linear(self.physical_unit, self.low, self.high)

    def convert(self, volume: Volume, brain: np.ndarray, companions: Mapping[str, np.ndarray]) -> np.ndarray:
        return volume.values[None]


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

    def convert(self, volume: Volume, brain: np.ndarray, companions: Mapping[str, np.ndarray]) -> np.ndarray:
        low, high = np.quantile(volume.values[brain], [self.lower, self.upper])
        if not high > low:
            raise DataFault(f"{volume.path} is constant inside the brain ({low:g}); expected an image")
        return ((volume.values - low) / (high - low)).astype(np.float32)[None]
