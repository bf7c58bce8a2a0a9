"""When the frames and slices of a series were taken, and whose word that is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import nibabel as nib
import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.headers import time_unit

FEET_HEAD = 2
LATEST_SLICE_S = 60.0
DIFFERENT = 0.01
_KEYS = ("FrameTimesStart", "VolumeTiming", "RepetitionTime")
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclass(frozen=True)
class Timing:
    """When a series was taken.

    times: (T,) seconds of each frame, increasing.
    offsets: (Z,) seconds by which each slice, from feet to head, is later than its frame; None where they are alike.
    word: who says so: "sidecar", "header", "data.frame_interval", or "assumed" where nobody says it of this file.
    remark: what is odd about it, or "".
    """

    times: np.ndarray
    offsets: np.ndarray | None = None
    word: str = "sidecar"
    remark: str = ""


def sidecar_of(path: Path) -> Path:
    """The JSON file that lies beside a NIfTI file."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def read_timing(
    path: Path,
    header: nib.nifti1.Nifti1Header | None,
    affine: np.ndarray,
    shape: tuple[int, ...],
    stated: float | None,
    documented: float | None,
) -> Timing:
    """Timing by the sidecar, else by the user, else by the header, else by the data set's documentation.

    The sidecar's `FrameTimesStart`, `VolumeTiming` or `RepetitionTime` give the frames' times, its `SliceTiming` (with
    `SliceEncodingDirection`, "k" by default) the slices', all in seconds.

    Args:
        path: the series.
        header: of the file; None where its fourth voxel size is not that of the frames.
        affine: 4 × 4 of the file.
        shape: (X, Y, Z, T) in the file's order.
        stated: seconds between frames, as the user states it.
        documented: seconds between frames, as the data set's authors document it.

    Raises:
        DataFault: nobody says the times, what says them is unreadable or does not fit, or the unit of time is unknown.
    """
    sidecar, frames = sidecar_of(path), shape[3]
    content = read_sidecar(sidecar)
    offsets = _slice_offsets(sidecar, content, affine, shape)
    times = _frame_times(sidecar, content, path.name, frames)
    if times is not None:
        return Timing(times, offsets)
    if _is_interval(stated):
        return Timing(_regular(frames, stated), offsets, "data.frame_interval", _contradiction(path, header, stated))
    said = None if header is None else _header_interval(path, header)
    if _is_interval(said):
        return Timing(_regular(frames, said), offsets, "header")
    if _is_interval(documented):
        remark = f"frames {documented:g} s apart are assumed: the file does not say (data.frame_interval does)"
        return Timing(_regular(frames, documented), offsets, "assumed", remark)
    raise DataFault(
        f"{path} does not say when its {frames} frames were taken (no FrameTimesStart in {sidecar.name}, no "
        "interval with its unit in the header); give data.frame_interval in seconds"
    )


def read_sidecar(sidecar: Path) -> dict[str, Any]:
    """A JSON object in UTF-8, -16 or -32 with or without a byte order mark, or in Latin-1; empty without a file."""
    if not sidecar.is_file():
        return {}
    raw = sidecar.read_bytes()
    try:
        try:
            content = json.loads(raw)
        except UnicodeDecodeError:
            content = json.loads(raw.decode("latin-1"))
        if not isinstance(content, dict):
            raise TypeError(f"found a {type(content).__name__}")
    except (ValueError, TypeError, RecursionError) as error:
        raise DataFault(f"{sidecar} is not a JSON object with numbers for the frame times ({error})") from error
    return content


def _numbers(sidecar: Path, key: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, dtype=float)
    except (ValueError, TypeError) as error:
        raise DataFault(f"{sidecar}: {key} is {str(value)[:80]}; expected seconds ({error})") from error


def _frame_times(sidecar: Path, content: dict[str, Any], name: str, frames: int) -> np.ndarray | None:
    """(T,) seconds that a sidecar states, None where it is silent."""
    key = next((k for k in _KEYS if k in content), None)
    if key is None:
        return None
    stated = _numbers(sidecar, key, content[key])
    if key == "RepetitionTime" and stated.ndim == 0:
        if not _is_interval(float(stated)):
            raise DataFault(f"{sidecar}: RepetitionTime is {content[key]}; expected seconds between frames, above 0")
        return _regular(frames, float(stated))
    wanted = f"expected {frames} increasing seconds, one for each frame of {name}"
    if stated.shape != (frames,):
        raise DataFault(f"{sidecar}: {key} has {stated.size} values; {wanted}")
    if not np.isfinite(stated).all():
        where = int(np.flatnonzero(~np.isfinite(stated))[0])
        raise DataFault(f"{sidecar}: value {where + 1} of {key} is {stated[where]}; {wanted}")
    if not (np.diff(stated) > 0).all():
        where = int(np.flatnonzero(np.diff(stated) <= 0)[0])
        raise DataFault(
            f"{sidecar}: {key} has {stated[where + 1]:g} after {stated[where]:g} (frames {where + 1} and {where + 2}); "
            f"{wanted}"
        )
    return stated


def _slice_offsets(
    sidecar: Path, content: dict[str, Any], affine: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray | None:
    """(Z,) seconds from feet to head, the earliest 0; None where nothing tells slices apart."""
    if not content.get("SliceTiming"):
        return None
    direction = str(content.get("SliceEncodingDirection", "k"))
    if direction.removesuffix("-") not in ("i", "j", "k"):
        raise DataFault(f"{sidecar}: SliceEncodingDirection is {direction!r}; expected i, j, k, i-, j- or k-")
    axis = "ijk".index(direction[0])
    runs_along, sense = nib.orientations.io_orientation(affine)[axis]
    if int(runs_along) != FEET_HEAD:
        raise DataFault(
            f"{sidecar}: SliceTiming is of axis {direction[0]}, which does not run between feet and head; expected "
            "axial slices: state the right SliceEncodingDirection, or remove SliceTiming"
        )
    stated = _numbers(sidecar, "SliceTiming", content["SliceTiming"])
    if stated.shape != (shape[axis],):
        raise DataFault(
            f"{sidecar}: SliceTiming has {stated.size} values; expected {shape[axis]} seconds, one for each slice"
        )
    if not np.isfinite(stated).all() or stated.min() < 0 or stated.max() > LATEST_SLICE_S:
        raise DataFault(
            f"{sidecar}: SliceTiming goes from {stated.min():g} to {stated.max():g}; expected seconds after the "
            f"frame's start, 0–{LATEST_SLICE_S:g}"
        )
    in_file = stated[::-1] if direction.endswith("-") else stated
    from_feet = in_file if sense > 0 else in_file[::-1]
    return None if np.ptp(from_feet) == 0 else from_feet - from_feet.min()


def _header_interval(path: Path, header: nib.nifti1.Nifti1Header) -> float | None:
    seconds = _SECONDS.get(time_unit(path, header))
    return float(header.get_zooms()[3]) * seconds if seconds else None


def _contradiction(path: Path, header: nib.nifti1.Nifti1Header | None, stated: float) -> str:
    """What to say where the user's word is not the file's."""
    try:
        said = None if header is None else _header_interval(path, header)
    except DataFault:
        return ""  # the header is not asked
    if not _is_interval(said) or abs(said - stated) <= DIFFERENT * stated:
        return ""
    return f"frames {stated:g} s apart as data.frame_interval says: the header says {said:g} s"


def _is_interval(seconds: float | None) -> TypeGuard[float]:
    return seconds is not None and bool(np.isfinite(seconds)) and seconds > 0


def _regular(frames: int, interval: float) -> np.ndarray:
    return np.arange(frames) * interval
