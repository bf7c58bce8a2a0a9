"""CT: a perfusion series, or one volume without contrast."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import nibabel as nib
import numpy as np

from ctp_ldm.data.brain import ct_brain_mask
from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.hounsfield import to_hounsfield
from ctp_ldm.data.motion import frame_shifts
from ctp_ldm.data.quantities.base import Quantity
from ctp_ldm.data.series import series_bolus, series_noise, series_phases
from ctp_ldm.data.units import AUTO
from ctp_ldm.data.volumes import Volume
from ctp_ldm.data.window import cut_off_at
from ctp_ldm.scaling import Linear, Scaling, SymmetricLog
from ctp_ldm.spec import Channel

BRAIN_HU = (10.0, 80.0)
UNENHANCED = Linear("HU", 0.0, 80.0)


def _require_brain_hu(volume: Volume, median: float) -> None:
    if not BRAIN_HU[0] <= median <= BRAIN_HU[1]:
        raise DataFault(
            f"{volume.path} has a median of {median:.4g} in the brain before contrast; expected {BRAIN_HU[0]:.0f}–"
            f"{BRAIN_HU[1]:.0f} HU: check the brain mask, or state the unit with data.units"
        )


@dataclass(frozen=True)
class CTPerfusion(Quantity):
    """4D CT perfusion: the mean before contrast, and the enhancement of phases after the bolus arrives.

    White matter enhances by 3–5 HU, 2 % of the published linear range of 0–200 HU; the logarithm keeps it visible
    beside arteries. With 15 phases of 2.5 s the first pass and the venous outflow of tissue that fills 15 s late are
    seen; the published rule is a fixed number of frames from the start of the scan. A phase is fitted to all frames
    around its time, so that its noise is below a frame's and does not depend on where it falls between frames.

    phases: number of phases, at `interval` seconds from one another, the first one at arrival.
    unit: of the file: HU, HU+1024 or another offset, or auto.
    """

    phases: int = 15
    interval: float = 2.5
    unit: str = AUTO
    unit_by_agreement: ClassVar[bool] = True

    @property
    def dimensions(self) -> int:
        return 4

    @property
    def scaling(self) -> Scaling:
        return SymmetricLog("HU", knee=5.0, limit=200.0)

    def channels(self, role: str) -> tuple[Channel, ...]:
        phases = tuple(Channel(f"{role}_{i:02d}", self.scaling) for i in range(1, self.phases + 1))
        return (Channel(f"{role}_baseline", UNENHANCED), *phases)

    def calibrate(self, volume: Volume) -> Volume:
        return to_hounsfield(volume, self.unit)

    def find_brain(self, volume: Volume) -> np.ndarray:
        """By HU and connected components, from the mean of the frames of the first three seconds."""
        first = volume.values[..., volume.times - volume.times[0] <= 3.0]  # type: ignore[index]
        return ct_brain_mask(first.mean(axis=-1, dtype=np.float32), nib.affines.voxel_sizes(volume.affine))

    def convert(self, volume: Volume, brain: np.ndarray, companions: Mapping[str, np.ndarray]) -> np.ndarray:
        try:
            bolus = series_bolus(volume, brain)
            values = series_phases(volume, bolus, self.phases, self.interval)
        except DataFault as error:
            raise DataFault(f"{volume.path}: {error}") from error
        _require_brain_hu(volume, float(np.median(values[0][brain])))
        return values

    def noise(self, volume: Volume) -> np.ndarray | None:
        """Difference of the first two frames, which contrast has not reached, over √2."""
        first, second = volume.values[..., 0], volume.values[..., 1]
        return np.asarray((second - first) / np.float32(np.sqrt(2)))

    def describe(self, volume: Volume, brain: np.ndarray, values: np.ndarray) -> dict[str, Any]:
        """Unit, where HU are cut off, HU before contrast, timing, bolus, the noise of the phases, and motion."""
        assert volume.times is not None
        bolus = series_bolus(volume, brain)
        noise = series_noise(volume, bolus, self.phases, self.interval)
        shifts = frame_shifts(volume.values, brain, nib.affines.voxel_sizes(volume.affine))
        return {
            "unit": volume.unit,
            "cut_off": cut_off_at(volume.values[..., 0]),
            **super().describe(volume, brain, values),
            "frames": len(volume.times),
            "seconds": float(volume.times[-1] - volume.times[0]),
            "interval": float(np.median(np.diff(volume.times))),
            "arrival": bolus.arrival - float(volume.times[0]),
            "enhancement": bolus.enhancement,
            "noise": float(np.sqrt((noise**2).mean())),
            "noise_of_phases": [round(float(n), 3) for n in noise],
            "motion": float(np.linalg.norm(shifts, axis=1).max()),
        }


@dataclass(frozen=True)
class PublishedCTPerfusion(CTPerfusion):
    """The source of Lee et al. 2025 (arXiv 2510.09056): HU of 15 time points, 0–200 linear, and no baseline.

    A series of just so many frames, with all slices at one time, is taken as it is; of another one the phases that
    `CTPerfusion` finds.
    """

    @property
    def scaling(self) -> Scaling:
        return Linear("HU", 0.0, 200.0)

    def channels(self, role: str) -> tuple[Channel, ...]:
        return tuple(Channel(f"{role}_{i:02d}", self.scaling) for i in range(1, self.phases + 1))

    def convert(self, volume: Volume, brain: np.ndarray, companions: Mapping[str, np.ndarray]) -> np.ndarray:
        if not self._is_taken(volume):
            values = super().convert(volume, brain, companions)
            return np.asarray(values[1:] + values[:1])
        frames = np.moveaxis(volume.values, -1, 0).astype(np.float32)
        _require_brain_hu(volume, float(np.median(frames[0][brain])))
        return frames

    def describe(self, volume: Volume, brain: np.ndarray, values: np.ndarray) -> dict[str, Any]:
        """As of any series; of one that is taken as it is without phases, and without a bolus where none is found."""
        try:
            facts = super().describe(volume, brain, values)
        except DataFault:
            return {"unit": volume.unit, **Quantity.describe(self, volume, brain, values)}
        return {k: v for k, v in facts.items() if not (self._is_taken(volume) and k.startswith("noise"))}

    def _is_taken(self, volume: Volume) -> bool:
        timed_by_slice = volume.timing is not None and volume.timing.offsets is not None
        return volume.values.shape[-1] == self.phases and not timed_by_slice


@dataclass(frozen=True)
class NonContrastCT(Quantity):
    """One CT volume without contrast, 0–80 HU.

    unit: of the file: HU, HU+1024 or another offset, or auto.
    """

    unit: str = AUTO
    unit_by_agreement: ClassVar[bool] = True

    @property
    def scaling(self) -> Linear:
        return UNENHANCED

    def calibrate(self, volume: Volume) -> Volume:
        return to_hounsfield(volume, self.unit)

    def find_brain(self, volume: Volume) -> np.ndarray:
        """By HU and connected components."""
        return ct_brain_mask(volume.values, nib.affines.voxel_sizes(volume.affine))

    def convert(self, volume: Volume, brain: np.ndarray, companions: Mapping[str, np.ndarray]) -> np.ndarray:
        _require_brain_hu(volume, float(np.median(volume.values[brain])))
        return volume.values[None]

    def describe(self, volume: Volume, brain: np.ndarray, values: np.ndarray) -> dict[str, Any]:
        cut_off = cut_off_at(volume.values)
        return {"unit": volume.unit, "cut_off": cut_off, **super().describe(volume, brain, values)}
