"""All that is known of one evaluated patient, as whole volumes, in memory and on disk."""

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np

from ctp_ldm.writing import whole_file

FLUID_ADC = 1500.0
"""10⁻⁶ mm²/s: voxels above hold fluid, which is not alike on both sides and easily told from a lesion."""


class VolumesError(ValueError):
    """A file of evaluated volumes is missing, damaged or of another layout."""


@dataclass(frozen=True)
class PatientVolumes:
    """Volumes on the model's grid, slice-major: Z from feet to head, H from left to right, W from back to front.

    Values are in each channel's unit, and 0 outside the brain in synthetic images.

    case: name.
    spacing: (Z, H, W) voxel size in mm; along Z the distance of the slices' planes.
    targets: names of the Ct channels.
    units: of the Ct channels.
    synthetic, real: (Z, Ct, H, W) float32.
    brain: (Z, H, W) bool.
    lesion: (Z, H, W) bool, the reference mask; None where the patient has none.
    found: (Z, H, W) bool, the lesion that a segmenter finds on the synthetic image; None without segmenter.
    found_real: the same on the real image.
    deviation: (Z, Ct, H, W) standard deviation of several samples, in the channel's unit; None for one sample.
    source: (Z, K, H, W) a few channels to look at, in their units.
    sources: names of the K channels.
    penumbra: (Z, H, W) bool, tissue with Tmax > 6 s; None where no map says so.
    """

    case: str
    spacing: tuple[float, float, float]
    targets: tuple[str, ...]
    units: tuple[str, ...]
    synthetic: np.ndarray
    real: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray | None = None
    found: np.ndarray | None = None
    found_real: np.ndarray | None = None
    deviation: np.ndarray | None = None
    source: np.ndarray | None = None
    sources: tuple[str, ...] = ()
    penumbra: np.ndarray | None = None

    @property
    def tissue(self) -> np.ndarray:
        """(Z, H, W) bool, the brain less voxels of fluid by the real ADC; the whole brain where no target is ADC."""
        if "adc" not in self.targets:
            return self.brain
        return np.asarray(self.brain & (self.real[:, self.targets.index("adc")] < FLUID_ADC))

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing)) / 1000

    def save(self, path: Path) -> None:
        """Write an `.npz`, images in half precision; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        present = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        half = {k: v.astype(np.float16) if _is_image(v) else np.asarray(v) for k, v in present.items()}
        with whole_file(path) as partial:
            np.savez_compressed(partial, **half)  # type: ignore[arg-type]  # the stubs take any keyword for allow_pickle

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            VolumesError: missing, damaged or of another layout.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            plain = {
                "case": str(arrays.pop("case")),
                "spacing": tuple(float(mm) for mm in arrays.pop("spacing")),
                **{key: tuple(str(name) for name in arrays.pop(key)) for key in ("targets", "units", "sources")},
            }
            images = {k: v.astype(np.float32) if _is_image(v) else v for k, v in arrays.items()}
            return cls(**plain, **images)  # type: ignore[arg-type]
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise VolumesError(f"{path} cannot be read ({error}); run ctp-ldm test again") from error


def _is_image(values: object) -> bool:
    return isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating)
