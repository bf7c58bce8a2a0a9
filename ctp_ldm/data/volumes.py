"""Read one NIfTI volume, whole, and compare grids."""

import hashlib
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.headers import read_orientation
from ctp_ldm.data.timing import Timing, read_timing
from ctp_ldm.forms import Forms
from ctp_ldm.geometry import to_ras
from ctp_ldm.machine import is_exhausted

GRID_TOLERANCE_MM = 1e-3
DEFLATE_RATIO = 1032
"""At most so many bytes come of one compressed byte (zlib's technical details)."""
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
    digest: of the values in the file's order; None where they are all the same, which does not say whose they are.
    unit: what the file's values were in, where that was found out.
    forms: how the file's header says the affine; None for a volume that was never in a file.
    timing: of a series' frames and slices and whose word that is; None where it never was in a file, or has no time.
    frames: (T,) place of each frame in the file, from 0; None where all are there.
    lost: (Z, T) frames in which a slice of a series holds no image; its values there only fill the gap. None: nowhere.
    """

    values: np.ndarray
    affine: np.ndarray
    file_affine: np.ndarray
    path: Path
    times: np.ndarray | None = None
    digest: str | None = None
    unit: str | None = None
    forms: Forms | None = None
    timing: Timing | None = None
    frames: np.ndarray | None = None
    lost: np.ndarray | None = None


def read_volume(
    path: Path, dimensions: int = 3, frame_interval: float | None = None, documented_interval: float | None = None
) -> Volume:
    """Read a NIfTI file completely and check it.

    Singleton axes after the third are dropped. Frame times come from the JSON sidecar, else from `frame_interval`, else
    from the header's fourth voxel size and time unit, else from `documented_interval` (`timing`).

    Args:
        path: the file.
        dimensions: 3, or 4 for a time series.
        frame_interval: seconds between frames, as the user states it.
        documented_interval: seconds between frames, as the data set's authors document it.

    Raises:
        DataFault: missing, unreadable or truncated file, other dimensions, non-finite voxels, a header that does not
            say where the voxels lie (`read_orientation`), no frame times.
    """
    if not path.is_file():
        raise DataFault(f"{path} is missing")
    try:
        image = cast(nib.nifti1.Nifti1Image, nib.load(path, keep_file_open=True))
        if not isinstance(image, nib.nifti1.Nifti1Pair):
            raise ValueError(f"it is of the kind {type(image).__name__}")
        _require_possible_size(path, image)
        values = _numbers(image)
    except _UNREADABLE as error:
        if is_exhausted(error):
            raise
        raise DataFault(f"{path} cannot be read as NIfTI ({error!r}); replace the file") from error
    kept = [axis for axis, n in enumerate(values.shape) if axis < 3 or n > 1]
    if len(kept) == dimensions:
        values = values.reshape([values.shape[axis] for axis in kept], order="F")
    if values.ndim != dimensions:
        what = "a time series (X × Y × Z × T)" if dimensions == 4 else "one volume (X × Y × Z)"
        raise DataFault(f"{path} has dimensions {' × '.join(map(str, values.shape))}; expected {what}")
    broken = sum(frame.size - int(np.isfinite(frame).sum()) for frame in _frames(values))
    if broken:
        raise DataFault(f"{path} has {broken} non-finite voxels of {values.size}; expected none: repair or exclude it")
    affine, forms = read_orientation(path, image.header, values.shape)
    timing = None
    if dimensions == 4:
        header = image.header if kept[-1] == 3 else None
        timing = read_timing(path, header, affine, values.shape, frame_interval, documented_interval)
    times = None if timing is None else timing.times
    return Volume(*to_ras(values, affine), affine, path, times, _digest(values), forms=forms, timing=timing)


def _require_possible_size(path: Path, image: nib.nifti1.Nifti1Image) -> None:
    """A damaged header may ask for terabytes, for which some systems end the process instead of refusing memory."""
    wanted = math.prod(image.shape) * image.get_data_dtype().itemsize
    most = path.stat().st_size * (DEFLATE_RATIO if path.suffix == ".gz" else 1)
    if wanted > most:
        raise ValueError(f"its header asks for {wanted} bytes, and so small a file holds at most {most}")


def _numbers(image: nib.nifti1.Nifti1Image) -> np.ndarray:
    """Its values as float32, first axis fastest; frame by frame, so that a series is in memory once."""
    values = np.empty(image.shape, np.float32, order="F")
    for frame in np.ndindex(image.shape[3:]):
        values[..., *frame] = np.asarray(image.dataobj[..., *frame], dtype=np.float32)
    return values


def _frames(values: np.ndarray) -> Iterator[np.ndarray]:
    """The volumes of a series one after another; a volume as it is."""
    return (values[..., *frame] for frame in np.ndindex(values.shape[3:]))


def _digest(values: np.ndarray) -> str | None:
    if values.size == 0 or values.min() == values.max():
        return None
    digest = hashlib.blake2b(digest_size=16)
    for frame in _frames(values):
        digest.update(np.ascontiguousarray(frame.T).data)
    return digest.hexdigest()


def require_same_grid(volume: Volume, reference: Volume) -> None:
    """Refuse two volumes whose voxels are not at the same places.

    Raises:
        DataFault: the shapes differ, or a corner voxel lies more than 1e-3 mm apart.
    """
    shape, expected = volume.values.shape[:3], reference.values.shape[:3]
    if shape != expected:
        turned = " (its axes are in the order z, y, x)" if shape == expected[::-1] else ""
        raise DataFault(
            f"{volume.path} has {' × '.join(map(str, shape))} voxels, {reference.path.name} "
            f"{' × '.join(map(str, expected))}{turned}; expected one grid: co-register and resample it"
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    distance = float(np.abs((volume.affine - reference.affine) @ corners).max())
    if distance > GRID_TOLERANCE_MM:
        raise DataFault(
            f"{volume.path} and {reference.path.name} have the same shape but their corners lie {distance:.3g} mm "
            f"apart (tolerance {GRID_TOLERANCE_MM:g} mm); co-register and resample it"
        )
