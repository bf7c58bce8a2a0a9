"""From one patient's files to encoded slices on the prepared grid, or to everything that is wrong with them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctp_ldm.data.cases import Case
from ctp_ldm.data.faults import CaseFault, DataFaults
from ctp_ldm.data.loading import LoadedCase, load_case
from ctp_ldm.data.resampled import resampling_of
from ctp_ldm.data.task import Task
from ctp_ldm.geometry import THICK_ENOUGH, Geometry, slice_distance
from ctp_ldm.resampling import MaskedMean
from ctp_ldm.spec import Channel, DataSpec

THICKEST = 20.0
_REMEDY = "repair the files, or leave the case out"


@dataclass(frozen=True)
class Settings:
    """How cases are prepared.

    spacing: in-plane voxel size, mm.
    size: (H, W) voxels.
    slice_thickness: mm that thinner slices are averaged to, unless the MRI's own slices are known; None: no averaging.
    frame_interval: seconds between the frames of series that do not say.
    sources_only: cases without target or lesion mask are welcome; they can be predicted, not trained on.
    """

    spacing: float = 1.0
    size: tuple[int, int] = (192, 224)
    slice_thickness: float | None = 5.0
    frame_interval: float | None = None
    sources_only: bool = False

    def __post_init__(self) -> None:
        if not self.spacing > 0:
            raise ValueError(f"spacing must be above 0 mm, found {self.spacing}")
        if min(self.size) < 16:
            raise ValueError(f"size must be at least 16 × 16 voxels, found {self.size[0]} × {self.size[1]}")
        if self.slice_thickness is not None and not 0 < self.slice_thickness <= THICKEST:
            raise ValueError(
                f"slice_thickness must be above 0 and at most {THICKEST:g} mm, or null for slices as they are; found "
                f"{self.slice_thickness}"
            )

    def spec(self, task: Task) -> DataSpec:
        """What the numbers of cases that are prepared so mean."""
        return task.spec(self.spacing, self.size, self.slice_thickness)


@dataclass(frozen=True)
class PreparedCase:
    """One patient as slices, encoded to [−1, 1]; outside the brain every channel holds the encoding of physical 0.

    source: (Z, Cs, H, W) float32.
    target: (Z, Ct, H, W) float32, or None.
    brain: (Z, H, W) bool.
    lesion: (Z, H, W) bool, or None.
    geometry: the grid and the way back to the input.
    digests: role → digest of the content of an image file.
    remarks: what is odd about the case, in the words of `check`.
    resampling: what the way to the grid did to noise and sharpness (`resampling_of`).
    """

    source: np.ndarray
    target: np.ndarray | None
    brain: np.ndarray
    lesion: np.ndarray | None
    geometry: Geometry
    digests: dict[str, str]
    remarks: list[str]
    resampling: dict[str, Any]


def prepare_case(case: Case, task: Task, settings: Settings) -> PreparedCase:
    """Read, check and encode one case.

    Raises:
        DataFaults: everything that is wrong with the case.
    """
    loaded = load_case(case, task, settings.frame_interval, settings.sources_only)
    geometry, outside = place(loaded, settings)
    faults = loaded.faults + outside
    if faults or geometry is None or loaded.brain is None:
        raise DataFaults([CaseFault(case.name, fault) for fault in faults], _REMEDY)
    seen = resampling_of(loaded, geometry)
    means = geometry.means(loaded.brain)
    has_target = all(role in loaded.values for role in task.targets)

    def encode(roles: Iterable[str], channels: Iterable[Channel]) -> np.ndarray:
        physical = (values for role in roles for values in loaded.values[role])
        return np.stack([_encode(c, p, seen.brain, means) for c, p in zip(channels, physical, strict=True)], axis=1)

    spec = settings.spec(task)
    return PreparedCase(
        source=encode(task.sources, spec.source),
        target=encode(task.targets, spec.target) if has_target else None,
        brain=seen.brain,
        lesion=seen.lesion,
        geometry=geometry,
        digests=loaded.digests,
        remarks=loaded.remarks + seen.remarks,
        resampling=seen.facts,
    )


def place(loaded: LoadedCase, settings: Settings) -> tuple[Geometry | None, list[str]]:
    """The prepared grid of a case whose brain is known, and why it does not fit."""
    if loaded.brain is None or loaded.affine is None:
        return None, []
    grid = (settings.spacing, settings.size, loaded.forms, _thickness(loaded, settings.slice_thickness))
    try:
        return Geometry.centred(loaded.affine, loaded.brain, *grid), []
    except ValueError as error:
        return None, [str(error)]


def _thickness(loaded: LoadedCase, wanted: float | None) -> float | None:
    """Of the slabs: that of the MRI's own slices where the file has them, or them interpolated to thinner ones, which
    slabs of another thickness would blur once more."""
    own = loaded.mri_slices
    if wanted is None or own is None or loaded.affine is None:
        return wanted
    return own if own >= THICK_ENOUGH * slice_distance(loaded.affine) else wanted


def _encode(channel: Channel, physical: np.ndarray, brain: np.ndarray, means: MaskedMean) -> np.ndarray:
    scaling, values = channel.scaling, means(np.moveaxis(physical, 2, 0))
    return np.where(brain, scaling.encode(values), scaling.background).astype(np.float32)
