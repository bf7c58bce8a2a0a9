"""From one patient's files to encoded slices on the prepared grid, or to everything that is wrong with them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ctp_ldm.data.cases import Case
from ctp_ldm.data.faults import CaseFault, DataFault, DataFaults
from ctp_ldm.data.quantities import Quantity
from ctp_ldm.data.task import BRAIN, LESION, Task
from ctp_ldm.data.volumes import Volume, read_volume, require_same_grid
from ctp_ldm.geometry import Geometry
from ctp_ldm.spec import Channel

LESION_IN_BRAIN = 0.5
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
    """

    source: np.ndarray
    target: np.ndarray | None
    brain: np.ndarray
    lesion: np.ndarray | None
    geometry: Geometry


def prepare_case(case: Case, task: Task, settings: Settings) -> PreparedCase:
    """Read, check and encode one case.

    Raises:
        DataFaults: everything that is wrong with the case.
    """
    faults: list[str] = []
    volumes = _read(case, task, settings, faults)
    if faults:
        raise _all(case, faults)
    try:
        brain = volumes[BRAIN].values > 0.5 if BRAIN in volumes else task.brain_mask(volumes)
        geometry = Geometry.centred(next(iter(volumes.values())).file_affine, brain, settings.spacing, settings.size)
    except ValueError as error:
        raise _all(case, [str(error)]) from error
    brain_slices = geometry.mask_to_grid(brain)
    source = _encode(task.sources, volumes, brain, brain_slices, geometry, faults)
    has_target = all(role in volumes for role in task.targets)
    target = _encode(task.targets, volumes, brain, brain_slices, geometry, faults) if has_target else None
    lesion = _lesion(volumes[LESION], brain, geometry, faults) if LESION in volumes else None
    if faults or source is None:
        raise _all(case, faults)
    return PreparedCase(source, target, brain_slices, lesion, geometry)


def _all(case: Case, faults: list[str]) -> DataFaults:
    return DataFaults([CaseFault(case.name, fault) for fault in faults], _REMEDY)


def _read(case: Case, task: Task, settings: Settings, faults: list[str]) -> dict[str, Volume]:
    volumes: dict[str, Volume] = {}
    for role in task.roles:
        if role not in case.files:
            optional = role == BRAIN or (role == LESION and not task.needs_lesion)
            if role in task.sources or not (settings.sources_only or optional):
                hint = "" if role in task.sources else " (cases for prediction alone: --sources-only)"
                faults.append(f"{role} is missing: expected {case.expected.get(role, 'a file')}{hint}")
            continue
        try:
            volumes[role] = read_volume(case.files[role], task.dimensions(role), settings.frame_interval)
        except DataFault as error:
            faults.append(str(error))
    reference = volumes.get(next(iter(task.sources)))
    for volume in volumes.values():
        try:
            require_same_grid(volume, reference or volume)
        except DataFault as error:
            faults.append(str(error))
    return volumes


def _encode(
    quantities: Mapping[str, Quantity],
    volumes: Mapping[str, Volume],
    brain: np.ndarray,
    brain_slices: np.ndarray,
    geometry: Geometry,
    faults: list[str],
) -> np.ndarray | None:
    encoded: list[np.ndarray] = []
    for role, quantity in quantities.items():
        try:
            values = quantity.convert(role, volumes, brain)
        except DataFault as error:
            # Relative DWI reads the ADC map too: what is wrong with that is said once.
            if str(error) not in faults:
                faults.append(str(error))
            continue
        encoded += [
            _encode_channel(channel, physical, brain_slices, geometry)
            for channel, physical in zip(quantity.channels(role), values, strict=True)
        ]
    return None if faults else np.stack(encoded, axis=1)


def _encode_channel(channel: Channel, physical: np.ndarray, brain_slices: np.ndarray, geometry: Geometry) -> np.ndarray:
    scaling = channel.scaling
    return np.where(brain_slices, scaling.encode(geometry.to_grid(physical)), scaling.background).astype(np.float32)


def _lesion(volume: Volume, brain: np.ndarray, geometry: Geometry, faults: list[str]) -> np.ndarray:
    # Files that store masks as 0/65535 with a slope read back as 0.99999999977: never compare with 1.
    mask = volume.values > 0.5
    if mask.any() and (mask & brain).sum() < LESION_IN_BRAIN * mask.sum():
        share = (mask & brain).sum() / mask.sum()
        faults.append(
            f"{volume.path}: only {share:.0%} of the lesion lies in the brain mask; expected at least "
            f"{LESION_IN_BRAIN:.0%}: check registration and orientation"
        )
    return geometry.mask_to_grid(mask)
