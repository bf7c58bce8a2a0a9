"""Where a NIfTI file's voxels lie, or why its header does not tell."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from ctp_ldm.data.faults import DataFault
from ctp_ldm.forms import MM, Forms

VOXEL_MM = (0.02, 100.0)
DISAGREEMENT = 0.1
"""Of the smallest voxel edge: so far apart may the two forms put a corner, which is rounding."""
_LENGTHS = {0: "unknown", 1: "meter", 2: "mm", 3: "micron"}
_TIMES = {0: "unknown", 8: "sec", 16: "msec", 24: "usec", 32: "hz", 40: "ppm", 48: "rads"}
_IN_PLANE_MM, _LEAST_WIDTH_MM, _HIGHEST_MM = (110.0, 400.0), 90.0, 400.0


def read_orientation(path: Path, header: nib.nifti1.Nifti1Header, shape: Sequence[int]) -> tuple[np.ndarray, Forms]:
    """The affine in mm, and the forms that say it.

    The sform counts where its code is above 0, else the qform. A qform that differs only because it cannot hold a
    shear (a gantry's tilt) does not contradict the sform.

    Args:
        path: for messages.
        header: of the file.
        shape: of its values.

    Raises:
        DataFault: unknown codes or unit, no form that counts, two forms that contradict one another, an affine that
            cannot be inverted, voxels of a size that no scanner makes, axes in the order z, y, x.
    """
    try:
        forms = Forms.of(header, _length_unit(path, header))
    except DataFault:
        raise
    except ValueError as error:
        raise DataFault(f"{path} has a header that is none ({error}); convert it again from its source") from error
    if forms.codes == (0, 0):
        raise DataFault(
            f"{path} does not say which way its axes run (qform_code and sform_code are both 0); expected one of them "
            "above 0: convert it again from its source, or, where you know the orientation, write its affine with "
            "sform_code 1"
        )
    affine = np.array(forms.sform if forms.codes[1] > 0 else forms.qform) * MM[forms.unit]
    affine[3] = 0, 0, 0, 1
    if not np.isfinite(affine).all() or not _invertible(affine):
        raise DataFault(
            f"{path} has a singular affine {affine.tolist()}; expected an invertible one: repair its header"
        )
    _require_agreement(path, forms, shape)
    sizes = nib.affines.voxel_sizes(affine)
    if sizes.min() < VOXEL_MM[0] or sizes.max() > VOXEL_MM[1]:
        raise DataFault(
            f"{path} has voxels of {' × '.join(f'{s:.3g}' for s in sizes)} mm (its header's unit of length is "
            f"{forms.unit}); expected {VOXEL_MM[0]:g}–{VOXEL_MM[1]:g} mm: set the right unit (xyzt_units) or affine"
        )
    if int(nib.orientations.io_orientation(affine)[2, 0]) == 2:
        _require_slices_last(path, shape, sizes)
    return affine, forms


def time_unit(path: Path, header: nib.nifti1.Nifti1Header) -> str:
    """The unit of the fourth voxel size as the header says it.

    Raises:
        DataFault: its code is unknown.
    """
    code = int(header["xyzt_units"]) & ~7
    if code not in _TIMES:
        raise DataFault(_unknown_unit(path, header, "time", code, "8 (s), 16 (ms) or 24 (µs)"))
    return _TIMES[code]


def _length_unit(path: Path, header: nib.nifti1.Nifti1Header) -> str:
    code = int(header["xyzt_units"]) & 7
    if code not in _LENGTHS:
        raise DataFault(_unknown_unit(path, header, "length", code, "1 (m), 2 (mm) or 3 (µm)"))
    return _LENGTHS[code]


def _unknown_unit(path: Path, header: nib.nifti1.Nifti1Header, of: str, code: int, expected: str) -> str:
    return (
        f"{path} has an unknown unit of {of} (xyzt_units is {int(header['xyzt_units'])}, of which {code} is for {of}); "
        f"expected {expected}: set it in the header, or convert the file again"
    )


def _invertible(affine: np.ndarray) -> bool:
    """Whether its columns span a volume, whatever their unit."""
    columns = affine[:3, :3]
    return bool(abs(np.linalg.det(columns)) > 1e-9 * np.prod(np.linalg.norm(columns, axis=0).clip(1e-12)))


def _require_agreement(path: Path, forms: Forms, shape: Sequence[int]) -> None:
    if min(forms.codes) == 0 or forms.qform is None:
        return
    sform, qform = np.array(forms.sform), np.array(forms.qform)
    straightened = nib.nifti1.Nifti1Header()
    straightened.set_qform(sform, 1)
    apart = min(_apart(qform, other, shape) for other in (sform, straightened.get_qform()))
    edge = float(nib.affines.voxel_sizes(sform).min())
    if apart > DISAGREEMENT * edge:
        said = [
            f"{name} (code {code}) has axes {''.join(nib.aff2axcodes(form))} from {np.round(form[:3, 3], 2).tolist()}"
            for name, code, form in zip(("qform", "sform"), forms.codes, (qform, sform), strict=True)
        ]
        raise DataFault(
            f"{path} has two forms that put its voxels up to {apart * MM[forms.unit]:.3g} mm apart: {said[0]}, "
            f"{said[1]}; expected one place: set the code of the wrong one to 0"
        )


def _apart(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """The farthest distance of a corner voxel's two places."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape[:3]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    return float(np.linalg.norm(((one - other) @ corners)[:3], axis=0).max())


def _require_slices_last(path: Path, shape: Sequence[int], sizes: np.ndarray) -> None:
    """Refuse arrays that were written z, y, x under a header for x, y, z: no head has such edges."""
    read, turned = np.array(shape[:3]) * sizes, np.array(tuple(shape)[::-1][:3]) * sizes
    if not (read[0] < _LEAST_WIDTH_MM or read[2] > _HIGHEST_MM):
        return
    low, high = _IN_PLANE_MM
    if low <= turned[0] <= high and low <= turned[1] <= high and turned[2] <= _HIGHEST_MM:
        order = "t, z, y, x" if len(shape) == 4 else "z, y, x"
        raise DataFault(
            f"{path} has its axes in the order {order}: {' × '.join(map(str, shape))} voxels of "
            f"{' × '.join(f'{s:.3g}' for s in sizes)} mm, which is a head only the other way round; expected "
            f"{order[::-1]}: transpose the array before it is saved"
        )
