"""One patient's files in physical units, and everything that is wrong with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from ctp_ldm.data.brain import without_rim
from ctp_ldm.data.cases import Case
from ctp_ldm.data.extent import beyond_sources, share_shown, shared_brain
from ctp_ldm.data.faults import DataFault, UnknownUnit
from ctp_ldm.data.fluid import fluid_to_tissue
from ctp_ldm.data.holes import leave_out_empty, leave_out_lost
from ctp_ldm.data.masks import require_possible_lesion, set_voxels
from ctp_ldm.data.mirror import FLUID_ADC, against_mirror
from ctp_ldm.data.mri_slices import mri_slices
from ctp_ldm.data.quantities import ApparentDiffusion, Quantity, RelativeDWI
from ctp_ldm.data.remarks import remarks_on
from ctp_ldm.data.task import BRAIN, LESION, MASKS, Task
from ctp_ldm.data.volumes import Volume, read_volume, require_same_grid
from ctp_ldm.forms import Forms
from ctp_ldm.geometry import affine_ml

LESION_IN_BRAIN = 0.5
ASTRAY_ML = 1.0
"""A lesion of which less lies outside the brain says nothing of registration: an embolus in the cortex may lie on a
mask's rim. It is remarked on."""


@dataclass(frozen=True)
class LoadedCase:
    """What could be read of one patient, on the grid of its files in RAS order.

    values: role → (C, X, Y, Z) float32 in the units of the role's channels.
    brain: (X, Y, Z) bool, where all sources and targets have an image; None where absent or unreadable.
    lesion: (X, Y, Z) bool, None where absent or unreadable.
    affine: 4 × 4 of the files, None where none could be read.
    forms: how their header says it: that of the first source.
    mri_slices: mm between the MRI's own slices, where its sidecars say it.
    noise: (X, Y, Z) float32 noise of a single frame of the first series among the sources (`Quantity.noise`).
    digests: role → digest of a file's content; roles whose values are all the same are left out.
    facts: what is reported of the case: groups of plain values.
    faults: what is wrong, each with its file.
    remarks: what is odd.
    undecided: roles among the faults whose file does not tell its unit.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    brain: np.ndarray | None = None
    lesion: np.ndarray | None = None
    affine: np.ndarray | None = None
    forms: Forms | None = None
    mri_slices: float | None = None
    noise: np.ndarray | None = None
    digests: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)


def load_case(
    case: Case,
    task: Task,
    frame_interval: float | None = None,
    sources_only: bool = False,
) -> LoadedCase:
    """Read, check and convert one case as far as that goes.

    Args:
        case: the files.
        task: what they hold.
        frame_interval: seconds between the frames of series that do not say.
        sources_only: targets and lesion mask may be missing.

    Returns:
        The case; good only where `faults` is empty.
    """
    faults = _missing(case, task, sources_only)
    undecided: list[str] = []
    remarks: list[str] = []
    volumes = _read(case, task, frame_interval, faults, undecided, remarks)
    images = {role: volume for role, volume in volumes.items() if role not in MASKS}
    digests = {role: volume.digest for role, volume in volumes.items() if volume.digest is not None}
    faults += _same_within(case, digests)
    reference = next((volumes[role] for role in (*task.sources, *volumes) if role in volumes), None)
    affine, forms = (None, None) if reference is None else (reference.file_affine, reference.forms)
    facts = {} if reference is None else {"grid": _grid_facts(reference)}
    brain = _find_brain(case, task, volumes, faults)
    lesion = set_voxels(volumes[LESION]) if LESION in volumes and brain is not None else None
    values: dict[str, np.ndarray] = {}
    noise = None
    if brain is not None and reference is not None:
        sizes = nib.affines.voxel_sizes(reference.affine)
        remarks += [] if BRAIN in volumes else beyond_sources(task, images)
        brain, fit = shared_brain(task, images, brain, faults, remarks)
        for role in fit:
            _convert(role, task.quantities[role], images[role], brain, values, facts, faults, remarks)
        made = (task.quantities[role].noise(images[role]) for role in task.sources if role in values)
        noise = next((found for found in made if found is not None), None)
        if lesion is not None:
            _require_in_brain(volumes[LESION], lesion, brain, faults)
            try:
                require_possible_lesion(volumes[LESION], brain)
            except DataFault as error:
                faults.append(str(error))
        facts |= _mask_facts(brain, volumes.get(LESION), affine_ml(reference.affine), sizes)
        _add_diffusion_facts(task, values, lesion, brain, sizes, facts)
    own_slices, said = mri_slices(case, task)
    remarks += [*remarks_on(facts), *said]
    return LoadedCase(
        values, brain, lesion, affine, forms, own_slices, noise, digests, facts, faults, remarks, undecided
    )


def _missing(case: Case, task: Task, sources_only: bool) -> list[str]:
    faults = []
    for role in (*task.sources, *task.targets, LESION):
        optional = sources_only or (role == LESION and not task.needs_lesion)
        if role not in case.files and (role in task.sources or not optional):
            hint = "" if role in task.sources else " (cases for prediction alone: --sources-only)"
            faults.append(f"{role} is missing: expected {case.expected.get(role, 'a file')}{hint}")
    return faults


def _read(
    case: Case,
    task: Task,
    frame_interval: float | None,
    faults: list[str],
    undecided: list[str],
    remarks: list[str],
) -> dict[str, Volume]:
    volumes: dict[str, Volume] = {}
    quantities = task.quantities
    order = [*task.sources, *(role for role in task.roles if role not in task.sources)]
    for role in (role for role in order if role in case.files):
        try:
            dimensions = quantities[role].dimensions if role in quantities else 3
            volume = read_volume(case.files[role], dimensions, frame_interval, case.frame_interval)
            said = [volume.timing.remark] if volume.timing is not None and volume.timing.remark else []
            if dimensions == 4:
                volume, left_out = leave_out_empty(volume)
                said += left_out
            remarks += [f"{role}: {remark}" for remark in said]
            volume = quantities[role].calibrate(volume) if role in quantities else volume
            require_same_grid(volume, next(iter(volumes.values()), volume))
            if role in MASKS:
                set_voxels(volume)
            volumes[role] = volume
        except DataFault as error:
            faults.append(str(error))
            undecided += [role] if isinstance(error, UnknownUnit) else []
    return volumes


def _same_within(case: Case, digests: Mapping[str, str]) -> list[str]:
    first: dict[str, str] = {}
    faults = []
    for role, digest in digests.items():
        if role in MASKS:
            continue
        if digest in first:
            faults.append(
                f"{case.files[role]} has the content of {case.files[first[digest]].name}: one is the wrong file"
            )
        first.setdefault(digest, role)
    return faults


def _find_brain(case: Case, task: Task, volumes: Mapping[str, Volume], faults: list[str]) -> np.ndarray | None:
    """(X, Y, Z) bool, or None where nothing shows it (which is told as a fault)."""
    if BRAIN in volumes:
        brain = set_voxels(volumes[BRAIN])
        if not brain.any():
            faults.append(f"{volumes[BRAIN].path} is empty; expected a brain mask")
        return brain if brain.any() else None
    role = next(iter(task.sources))
    if BRAIN in case.files or role not in volumes:
        return None  # the mask or the source that would show it has a fault of its own
    try:
        return task.quantities[role].find_brain(volumes[role])
    except DataFault as error:
        faults.append(f"{volumes[role].path}: {error}")
        return None


def _convert(
    role: str,
    quantity: Quantity,
    volume: Volume,
    brain: np.ndarray,
    values: dict[str, np.ndarray],
    facts: dict[str, dict[str, Any]],
    faults: list[str],
    remarks: list[str],
) -> None:
    try:
        if (volume.unit or "").startswith("HU") and volume.values.ndim == 4:
            volume, filled = leave_out_lost(volume, brain)
            remarks += [f"{role}: {remark}" for remark in filled]
        companions = {r: values[r] for r in quantity.companions if r in values}
        values[role] = quantity.convert(volume, brain, companions)
        facts[role] = {
            **quantity.describe(volume, brain, values[role]),
            "covered": share_shown(quantity, volume, without_rim(brain, nib.affines.voxel_sizes(volume.affine))),
        }
        if volume.timing is not None:
            facts[role]["timing"] = volume.timing.word
    except DataFault as error:
        faults.append(str(error))


def _require_in_brain(volume: Volume, lesion: np.ndarray, brain: np.ndarray, faults: list[str]) -> None:
    share = (lesion & brain).sum() / max(1, lesion.sum())
    astray_ml = (lesion & ~brain).sum() * nib.affines.voxel_sizes(volume.affine).prod() / 1000
    if share < LESION_IN_BRAIN and astray_ml >= ASTRAY_ML:
        faults.append(
            f"{volume.path}: only {share:.0%} of the lesion lies in the brain mask; expected at least "
            f"{LESION_IN_BRAIN:.0%}: check registration and orientation"
        )


def _grid_facts(volume: Volume) -> dict[str, Any]:
    axes = volume.affine[:3, :3] / nib.affines.voxel_sizes(volume.affine)
    return {
        "shape": list(volume.values.shape[:3]),
        "spacing": [round(float(s), 4) for s in nib.affines.voxel_sizes(volume.affine)],
        "orientation": "".join(nib.aff2axcodes(volume.file_affine)),
        "oblique": round(float(np.degrees(np.arccos(np.clip(np.diag(axes), -1, 1).min()))), 2),
    }


def _mask_facts(
    brain: np.ndarray, volume: Volume | None, voxel_ml: float, sizes: np.ndarray
) -> dict[str, dict[str, Any]]:
    spans = [np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    facts: dict[str, dict[str, Any]] = {
        "brain": {
            "ml": float(brain.sum() * voxel_ml),
            "extent": [round(float((s[-1] - s[0] + 1) * size), 1) for s, size in zip(spans, sizes, strict=True)],
            "slices": int(brain.any(axis=(0, 1)).sum()),
            "cut": any(s[0] == 0 or s[-1] == n - 1 for s, n in zip(spans[:2], brain.shape[:2], strict=True)),
        }
    }
    if volume is not None:
        lesion = set_voxels(volume)
        inside = float((lesion & brain).sum() / lesion.sum()) if lesion.any() else None
        facts["lesion"] = {
            "ml": float(lesion.sum() * voxel_ml),
            "parts": int(ndimage.label(lesion)[1]),
            "in_brain": inside,
            "binary": _has_two_values(volume.values),
        }
    return facts


def _add_diffusion_facts(
    task: Task,
    values: Mapping[str, np.ndarray],
    lesion: np.ndarray | None,
    brain: np.ndarray,
    sizes: np.ndarray,
    facts: dict[str, dict[str, Any]],
) -> None:
    """What an ADC map tells of the DWI and of the lesion beside it, as far as the case has them."""
    maps = [role for role in values if isinstance(task.quantities[role], ApparentDiffusion)]
    images = [role for role in values if isinstance(task.quantities[role], RelativeDWI)]
    if not maps:
        return
    adc = values[maps[0]][0]
    if lesion is not None and lesion.any():
        facts["lesion"]["fluid"] = round(float((adc[lesion] > FLUID_ADC).mean()), 3)
    if not images:
        return
    dwi = values[images[0]][0]
    ratio = fluid_to_tissue(dwi, adc, brain)
    if ratio is not None:
        facts[images[0]]["fluid"] = round(ratio, 3)
    ratios = {} if lesion is None else against_mirror({"adc": adc, "dwi": dwi}, adc, lesion, brain, sizes)
    if len(ratios) == 2:
        facts["mirror"] = ratios


def _has_two_values(values: np.ndarray) -> bool:
    """Whether every value is 0 or the maximum, such as 1 or 255, as near as rounding leaves them."""
    top = max(float(values.max()), 1e-9)
    return bool((np.minimum(np.abs(values), np.abs(values - top)) < 1e-3 * top).all())
