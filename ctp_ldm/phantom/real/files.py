"""Real patients' DWI, ADC and lesion masks: where the files lie, and whether they can be used."""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from ctp_ldm.phantom.grid import Float, Grid, Mask
from ctp_ldm.phantom.real.segmentation import LEAST_BRAIN_ML, brain_mask

KINDS = ("dwi", "adc", "lesion")
NIFTI = r"\.nii(\.gz)?"
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)
SAME_GRID_MM = 0.5
ADC_UNITS = {"10^-3 mm^2/s": 1e3, "10^-6 mm^2/s": 1.0, "mm^2/s": 1e6}
TYPICAL_ADC = (500.0, 2000.0)  # of a brain's median, 10^-6 mm^2/s


@dataclass(frozen=True)
class MriFiles:
    """The files of one patient by kind (dwi, adc, lesion), and what is wrong with them."""

    name: str
    paths: dict[str, Path]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mri:
    """One patient's images as they are stored, each (X, Y, Z): DWI in its own unit, ADC in 10^-6 mm^2/s."""

    grid: Grid
    dwi: Float
    adc: Float
    lesion: Mask
    brain: Mask


def find_patients(source: Path) -> list[MriFiles]:
    """The patients of an ISLES'22 tree, of a folder of folders with `dwi`, `adc` and `lesion`, or of one such folder.

    Raises:
        FileNotFoundError: there is none.
    """
    parents = (source / "rawdata", source / "raw_data", source)
    folders = [p for parent in parents for p in sorted(parent.glob("sub-*")) if p.is_dir()]
    patients = [_single_files(folder) or _isles22(source, folder) for folder in folders]
    others = [source, *(p for p in source.glob("*") if p.is_dir() and p not in folders)]
    patients += [patient for patient in map(_single_files, others) if patient]
    if not patients:
        raise FileNotFoundError(
            f"{source} holds no patients; expected an ISLES'22 tree (rawdata/sub-*/ses-*/…_dwi.nii.gz) or dwi.nii.gz, "
            "adc.nii.gz and lesion.nii.gz, in it or in folders of it"
        )
    return _with_own_names(patients)


def _isles22(source: Path, folder: Path) -> MriFiles:
    """Of several sessions the first is taken, of images and mask alike."""
    session = next((p.name for p in sorted(folder.glob("ses-*"))), "ses-0001")
    masks = source / "derivatives" / folder.name
    files = [p for place in (folder, masks) for p in sorted(place.rglob("*")) if p.is_file()]
    stem = f"{re.escape(folder.name)}_(?:{re.escape(session)}_)?"
    suffixes = {"dwi": "dwi", "adc": "adc", "lesion": "(?:lesion-)?msk"}
    expected = {kind: folder / session / f"{folder.name}_{session}_{kind}.nii.gz" for kind in ("dwi", "adc")}
    expected["lesion"] = masks / session / f"{folder.name}_{session}_msk.nii.gz"
    found = {k: _matching(files, f"{stem}{suffix}{NIFTI}") for k, suffix in suffixes.items()}
    return _chosen(folder.name, found, expected)


def _single_files(folder: Path) -> MriFiles | None:
    files = [p for p in sorted(folder.glob("*")) if p.is_file()]
    name = folder.resolve().name
    found = {kind: _matching(files, f"{kind}{NIFTI}") for kind in KINDS}
    if not any(found.values()):
        return None
    expected = {kind: folder / f"{kind}.nii.gz" for kind in KINDS}
    return _chosen(name if name.startswith("sub-") else f"sub-{name}", found, expected)


def _matching(files: Iterable[Path], pattern: str) -> list[Path]:
    return [path for path in files if re.fullmatch(pattern, path.name, re.IGNORECASE)]


def _chosen(name: str, found: dict[str, list[Path]], expected: dict[str, Path]) -> MriFiles:
    faults = [f"{expected[kind]} is missing" for kind, paths in found.items() if not paths]
    faults += [
        f"{len(paths)} files for {kind}: {', '.join(map(str, paths))}; keep one"
        for kind, paths in found.items()
        if len(paths) > 1
    ]
    return MriFiles(name, {kind: paths[0] for kind, paths in found.items() if paths}, tuple(faults))


def _with_own_names(patients: list[MriFiles]) -> list[MriFiles]:
    """Patients that share a name would share their files: a fault of each."""
    names = [patient.name for patient in patients]
    shared = "another patient has this name too; rename one folder"
    return [
        MriFiles(p.name, p.paths, (*p.faults, shared)) if names.count(p.name) > 1 else p
        for p in sorted(patients, key=lambda p: p.name)
    ]


def faults_of(patient: MriFiles) -> list[str]:
    """Everything that is wrong with a patient's files; each fault names its file."""
    return _examine(patient)[1]


def read_patient(patient: MriFiles) -> Mri:
    """The images of a patient.

    Raises:
        ValueError: something is wrong with them, as `faults_of` says.
    """
    mri, faults = _examine(patient)
    if mri is None:
        raise ValueError(f"{patient.name}: {'; '.join(faults)}")
    return mri


def _examine(patient: MriFiles) -> tuple[Mri | None, list[str]]:
    faults = list(patient.faults)
    images: dict[str, tuple[Float, NDArray[np.float64]]] = {}
    for kind, path in patient.paths.items():
        try:
            images[kind] = _read(path)
        except UNREADABLE as error:
            faults.append(str(error) if str(path) in str(error) else f"{path} cannot be read: {error}")
    faults += _faults_of_grids(patient, images)
    if faults:
        return None, faults
    (dwi, affine), adc, lesion = images["dwi"], images["adc"][0], images["lesion"][0] > 0.5
    x, y, z = (float(edge) for edge in nib.affines.voxel_sizes(affine))
    grid = Grid(dwi.shape, (x, y, z), affine)
    brain = brain_mask(grid, dwi, adc)
    if not brain.any():
        return None, [
            f"{patient.paths['dwi']} shows no brain; expected at least {LEAST_BRAIN_ML:g} mL, bright at b = 1000"
        ]
    median = float(np.median(adc[brain]))
    factors = [f for f in ADC_UNITS.values() if TYPICAL_ADC[0] <= median * f <= TYPICAL_ADC[1]]
    if not factors:
        expected = " or ".join(f"{TYPICAL_ADC[0] / f:g}-{TYPICAL_ADC[1] / f:g} {unit}" for unit, f in ADC_UNITS.items())
        return None, [f"{patient.paths['adc']} has a median of {median:.3g} in the brain; expected {expected}"]
    return Mri(grid, dwi, adc * np.float32(factors[0]), lesion, brain), []


def _faults_of_grids(patient: MriFiles, images: dict[str, tuple[Float, NDArray[np.float64]]]) -> list[str]:
    if "dwi" not in images:
        return []
    path, (dwi, affine) = patient.paths["dwi"], images["dwi"]
    faults = [
        f"{patient.paths[kind]} lies on another grid than {path.name}: shape {image.shape} and {dwi.shape}, corners up "
        f"to {_apart(image.shape, own, affine):.1f} mm apart; resample it"
        for kind, (image, own) in images.items()
        if image.shape != dwi.shape or _apart(image.shape, own, affine) > SAME_GRID_MM
    ]
    axes = "".join(nib.aff2axcodes(affine))
    if axes[2] not in "SI":
        faults.append(f"{path} is stored as {axes}; expected axial slices along the third axis")
    return faults


def _read(path: Path) -> tuple[Float, NDArray[np.float64]]:
    """Values (X, Y, Z) and affine."""
    image = nib.Nifti1Image.from_filename(path)
    values = np.asarray(image.dataobj, dtype=np.float32)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise ValueError(f"{path} has shape {values.shape}; expected one volume")
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds {np.count_nonzero(~np.isfinite(values))} values that are not finite")
    affine = np.asarray(image.affine, dtype=np.float64)
    if not abs(np.linalg.det(affine[:3, :3])) > 0:
        raise ValueError(f"{path} has an affine that is no grid's: {affine.tolist()}")
    return values, affine


def _apart(shape: tuple[int, ...], a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """How far two grids part at the corners of a volume, in mm."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    return float(np.abs((a - b)[:3, :3] @ corners + (a - b)[:3, 3:]).max())
