"""Read one NIfTI volume, whole, and compare grids."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from ctp_ldm.data.faults import DataFault
from ctp_ldm.geometry import to_ras

GRID_TOLERANCE_MM = 1e-3
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
# What nibabel and numpy raise for damaged headers, truncated data, absurd dimensions and colours instead of numbers.
_UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, TypeError, MemoryError, zlib.error)


@dataclass(frozen=True)
class Volume:
    """One file's numbers, and where and when they were taken.

    values: (X, Y, Z) or (X, Y, Z, T) float32 in the RAS order closest to the file's, slope and intercept applied.
    affine: 4 × 4, voxel → mm, of `values`.
    file_affine: 4 × 4 as the file has it.
    times: (T,) seconds of each frame, None for three dimensions.
    path: the file.
    """

    values: np.ndarray
    affine: np.ndarray
    file_affine: np.ndarray
    path: Path
    times: np.ndarray | None = None


def read_volume(path: Path, dimensions: int = 3, frame_interval: float | None = None) -> Volume:
    """Read a NIfTI file completely and check it.

    A singleton last axis is dropped. Frame times come from `FrameTimesStart` (seconds) of the JSON sidecar, else from
    `frame_interval`, else from the header's fourth voxel size and time unit.

    Args:
        path: the file.
        dimensions: 3, or 4 for a time series.
        frame_interval: seconds between frames, for files that do not say.

    Raises:
        DataFault: missing, unreadable or truncated file, other dimensions, non-finite voxels, no frame times.
    """
    if not path.is_file():
        raise DataFault(f"{path} is missing")
    try:
        image = cast(nib.nifti1.Nifti1Image, nib.load(path))
        values = np.asarray(image.dataobj, dtype=np.float32)
    except _UNREADABLE as error:
        raise DataFault(f"{path} cannot be read as NIfTI ({error!r}); replace the file") from error
    while values.ndim > dimensions and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != dimensions:
        what = "a time series (X × Y × Z × T)" if dimensions == 4 else "one volume (X × Y × Z)"
        raise DataFault(f"{path} has dimensions {' × '.join(map(str, values.shape))}; expected {what}")
    broken = values.size - int(np.isfinite(values).sum())
    if broken:
        raise DataFault(f"{path} has {broken} non-finite voxels of {values.size}; expected none: repair or exclude it")
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataFault(
            f"{path} has a singular affine {affine.tolist()}; expected an invertible one: repair its header"
        )
    times = _frame_times(image, path, values.shape[-1], frame_interval) if dimensions == 4 else None
    return Volume(*to_ras(values, affine), affine, path, times)


def sidecar_of(path: Path) -> Path:
    """The JSON file that lies beside a NIfTI file."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def _frame_times(image: nib.nifti1.Nifti1Image, path: Path, frames: int, interval: float | None) -> np.ndarray:
    sidecar = sidecar_of(path)
    if sidecar.is_file():
        try:
            stated = json.loads(sidecar.read_text()).get("FrameTimesStart")
            times = None if stated is None else np.asarray(stated, dtype=float)
        except (ValueError, TypeError, AttributeError) as error:
            raise DataFault(f"{sidecar} is not a JSON object with numbers in FrameTimesStart ({error})") from error
        if times is not None:
            if times.shape != (frames,) or not np.isfinite(times).all() or not (np.diff(times) > 0).all():
                raise DataFault(
                    f"{sidecar}: FrameTimesStart has {times.size} values; expected {frames} increasing seconds, one "
                    f"for each frame of {path.name}"
                )
            return times
    if interval is None:
        unit = _SECONDS.get(image.header.get_xyzt_units()[1])
        interval = float(image.header.get_zooms()[3]) * unit if unit else 0.0
    if not (np.isfinite(interval) and interval > 0):
        raise DataFault(
            f"{path} does not say when its {frames} frames were taken (no FrameTimesStart in {sidecar.name}, no time "
            "unit in the header); give --frame-interval in seconds"
        )
    return np.arange(frames) * interval


def require_same_grid(volume: Volume, reference: Volume) -> None:
    """Refuse two volumes whose voxels are not at the same places.

    Raises:
        DataFault: the shapes differ, or a corner voxel lies more than 1e-3 mm apart.
    """
    shape, expected = volume.values.shape[:3], reference.values.shape[:3]
    if shape != expected:
        raise DataFault(
            f"{volume.path} has {' × '.join(map(str, shape))} voxels, {reference.path.name} "
            f"{' × '.join(map(str, expected))}; expected one grid: co-register and resample it"
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    distance = float(np.abs((volume.affine - reference.affine) @ corners).max())
    if distance > GRID_TOLERANCE_MM:
        raise DataFault(
            f"{volume.path} and {reference.path.name} have the same shape but their corners lie {distance:.3g} mm "
            f"apart (tolerance {GRID_TOLERANCE_MM:g} mm); co-register and resample it"
        )
