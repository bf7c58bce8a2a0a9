"""From one patient's files to encoded slices on the prepared grid, or to everything that is wrong with them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ctp_ldm.data.cases import Case
from ctp_ldm.data.faults import CaseFault, DataFaults
from ctp_ldm.data.loading import LoadedCase, load_case
from ctp_ldm.data.task import Task
from ctp_ldm.geometry import Geometry
from ctp_ldm.spec import Channel

_REMEDY = "repair the files, or leave the case out"


@dataclass(frozen=True)
class Settings:
    """How cases are prepared.

    spacing: in-plane voxel size, mm.
    size: (H, W) voxels.
    frame_interval: seconds between the frames of series that do not say.
    sources_only: cases without target or lesion mask are welcome; they can be predicted, not trained on.
    """

    spacing: float = 1.0
    size: tuple[int, int] = (192, 224)
    frame_interval: float | None = None
    sources_only: bool = False

    def __post_init__(self) -> None:
        if not self.spacing > 0:
            raise ValueError(f"spacing must be above 0 mm, found {self.spacing}")
        if min(self.size) < 16:
            raise ValueError(f"size must be at least 16 × 16 voxels, found {self.size[0]} × {self.size[1]}")


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
    """

    source: np.ndarray
    target: np.ndarray | None
    brain: np.ndarray
    lesion: np.ndarray | None
    geometry: Geometry
    digests: dict[str, str]
    remarks: list[str]


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
    brain = geometry.mask_to_grid(loaded.brain)
    has_target = all(role in loaded.values for role in task.targets)

    def encode(roles: Iterable[str], channels: Iterable[Channel]) -> np.ndarray:
        physical = (values for role in roles for values in loaded.values[role])
        return np.stack([_encode(c, p, brain, geometry) for c, p in zip(channels, physical, strict=True)], axis=1)

    spec = task.spec(settings.spacing, settings.size)
    return PreparedCase(
        source=encode(task.sources, spec.source),
        target=encode(task.targets, spec.target) if has_target else None,
        brain=brain,
        lesion=None if loaded.lesion is None else geometry.mask_to_grid(loaded.lesion),
        geometry=geometry,
        digests=loaded.digests,
        remarks=loaded.remarks,
    )


def place(loaded: LoadedCase, settings: Settings) -> tuple[Geometry | None, list[str]]:
    """The prepared grid of a case whose brain is known, and why it does not fit."""
    if loaded.brain is None or loaded.affine is None:
        return None, []
    try:
        return Geometry.centred(loaded.affine, loaded.brain, settings.spacing, settings.size, loaded.forms), []
    except ValueError as error:
        return None, [str(error)]


def _encode(channel: Channel, physical: np.ndarray, brain: np.ndarray, geometry: Geometry) -> np.ndarray:
    scaling = channel.scaling
    return np.where(brain, scaling.encode(geometry.to_grid(physical)), scaling.background).astype(np.float32)
