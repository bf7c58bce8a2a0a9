"""How far each image of a case reaches between feet and head: what not all of them show is left out, and said."""

from collections.abc import Mapping

import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.holes import LEAST_VOXELS, empty_slices, numbers
from ctp_ldm.data.quantities import Quantity
from ctp_ldm.data.task import Task
from ctp_ldm.data.volumes import Volume
from ctp_ldm.geometry import affine_ml

COVERED = 0.5
BEYOND = 0.05
FOREGROUND = 0.05


def shared_brain(
    task: Task, images: Mapping[str, Volume], brain: np.ndarray, faults: list[str], remarks: list[str]
) -> tuple[np.ndarray, list[str]]:
    """The brain in the slices that all sources and targets show.

    Where one was not scanned it has nothing to learn from or to be compared with, and 0 would be taken for its value.

    Args:
        task: what the images hold.
        images: role → (X, Y, Z) or (X, Y, Z, T).
        brain: (X, Y, Z) bool.
        faults: receives images that miss half of the brain, or slices between others; and what is left of the brain
            where that is less than half.
        remarks: receives the slices that are left out.

    Returns:
        (X, Y, Z) bool, and the roles without fault.
    """
    fit, scanned = [], {}
    for role, quantity in task.quantities.items():
        if role not in images:
            continue
        try:
            slices = _scanned(images[role], quantity, brain)
        except DataFault as error:
            faults.append(str(error))
            continue
        fit.append(role)
        missed = brain & ~slices
        # A companion's values are never learnt.
        if missed.any() and role in (*task.sources, *task.targets):
            scanned[role] = slices
            ml, share = missed.sum() * affine_ml(images[role].affine), missed.sum() / brain.sum()
            remarks.append(
                f"{role}: holds no image in slices {_slices(missed)} from the feet, where the brain is: {ml:.0f} mL "
                f"({share:.0%}) are left out"
            )
    kept = brain & np.logical_and.reduce(list(scanned.values()) or [np.ones(brain.shape[2], bool)])
    if kept.sum() < COVERED * brain.sum():
        faults.append(
            f"only {kept.sum() / brain.sum():.0%} of the brain lies in slices that {' and '.join(scanned)} show; "
            f"expected at least {COVERED:.0%}: check fields of view and registration"
        )
        return brain, []
    return kept, fit


def share_shown(quantity: Quantity, volume: Volume, brain: np.ndarray) -> float:
    """The share of the brain in which an image is not 0, where 0 lies outside of what was scanned; else 1."""
    return float((_first_frame(volume)[brain] != 0).mean()) if quantity.zero_is_outside else 1.0


def beyond_sources(task: Task, images: Mapping[str, Volume]) -> list[str]:
    """What to say of targets that reach further than the sources: a remark for each, or nothing.

    Only where at least 5 % of a target's foreground (above 5 % of its 99th percentile) lies in slices in which a source
    has one value alone: what is synthesised ends there, and what the target shows beyond is compared with nothing.
    """
    remarks = []
    for target in (role for role in task.targets if role in images):
        values = _first_frame(images[target])
        foreground = values > FOREGROUND * np.percentile(values, 99)
        for source in (role for role in task.sources if role in images):
            frame = _first_frame(images[source])
            beyond = foreground & (frame.max(axis=(0, 1)) == frame.min(axis=(0, 1)))
            share = beyond.sum() / max(1, foreground.sum())
            if share >= BEYOND:
                remarks.append(
                    f"{target}: reaches beyond {source}, in slices {_slices(beyond)} from the feet: "
                    f"{beyond.sum() * affine_ml(images[target].affine):.0f} mL ({share:.0%}) are left out"
                )
    return remarks


def _scanned(volume: Volume, quantity: Quantity, brain: np.ndarray) -> np.ndarray:
    """(Z,) bool: the slices from the lowest to the highest that an image shows, and those beyond the brain.

    It does not show a slice in which the brain has one value alone or, where 0 lies outside, 0 in more than half: what
    oblique MRI leaves of its last slices on the grid of a CT. Slices with too little brain to be judged go with those
    beside them. An image of one value in the whole brain is left for its quantity to refuse.
    """
    shown = share_shown(quantity, volume, brain)
    if shown < COVERED:
        raise DataFault(
            f"{volume.path} is 0 in {1 - shown:.0%} of the brain; expected an image of the whole brain: check its "
            "field of view and registration"
        )
    holes, outer = empty_slices(volume.values, brain)
    if holes:
        raise DataFault(
            f"{volume.path} holds no image in slices {numbers(holes)} from the feet, between slices that do; expected "
            "one in every slice of the brain: convert it again, or leave the case out"
        )
    judged = np.flatnonzero(brain.sum(axis=(0, 1)) >= LEAST_VOXELS)
    frame = _first_frame(volume)
    seen = [
        z
        for z in judged
        if z not in outer and (not quantity.zero_is_outside or np.mean(frame[:, :, z][brain[:, :, z]] != 0) >= COVERED)
    ]
    scanned = np.ones(brain.shape[2], bool)
    if seen and seen[0] > judged[0]:
        scanned[: seen[0]] = False
    if seen and seen[-1] < judged[-1]:
        scanned[seen[-1] + 1 :] = False
    return scanned


def _first_frame(volume: Volume) -> np.ndarray:
    return volume.values if volume.values.ndim == 3 else volume.values[..., 0]


def _slices(mask: np.ndarray) -> str:
    return numbers(np.flatnonzero(mask.any(axis=(0, 1))).tolist())
