"""Small hand-made files and heads."""

from pathlib import Path

import nibabel as nib
import numpy as np

from ctp_ldm.data.volumes import Volume

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2.0, 0, -20], [0, 0, 5.0, 10], [0, 0, 0, 1]])


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write a NIfTI file that says nothing about time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def volume(values: np.ndarray, times: np.ndarray | None = None, name: str = "file.nii.gz") -> Volume:
    """A volume that never was in a file."""
    return Volume(np.asarray(values, dtype=np.float32), np.eye(4), np.eye(4), Path(name), times)


def isles_file(tree: Path, index: int, kind: str) -> Path:
    """A file of the ISLES'24 tree: ctp, dwi, adc or lesion-msk of patient `index`, from 1."""
    name, session = f"sub-stroke{index:04d}", "ses-01" if kind == "ctp" else "ses-02"
    return tree / "derivatives" / name / session / f"{name}_{session}_space-ncct_{kind}.nii.gz"


def rewrite(path: Path, values: np.ndarray | None = None, affine: np.ndarray | None = None) -> None:
    """Replace the voxels or the affine of a file and keep the rest."""
    image = nib.Nifti1Image.from_filename(path)
    content = np.asarray(image.dataobj) if values is None else values
    changed = nib.Nifti1Image(content, image.affine if affine is None else affine)
    changed.header.set_xyzt_units(*image.header.get_xyzt_units())
    changed.header.set_zooms((*nib.affines.voxel_sizes(changed.affine), *image.header.get_zooms()[3:]))
    nib.save(changed, path)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
