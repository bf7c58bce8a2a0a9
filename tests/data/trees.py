"""Small trees of every layout, with simulated patients of a few hundred kilobytes, and ways to break single files.

Patients come in RAS order and physical units; names and encodings say how a tree spells and stores them. However a
patient is stored, the same numbers should be read back.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np

from ctp_ldm.data.timing import sidecar_of

from .files import save
from .heads import GREY, VENTRICLE, head

SPACING = (6.0, 6.0, 12.0)
FRAMES, ARRIVAL_S = 40, 8.0
GRID = ["--data.spacing=6", "--data.size=[32,40]", "--workers=1"]
LESION_MM = 18.0
MAPS = ("cbf", "cbv", "mtt", "tmax")
IMAGES = ("ncct", "ctp", *MAPS, "dwi", "adc", "lesion")

Images = dict[str, np.ndarray]
Paths = dict[str, Path]


@cache
def patient(seed: int) -> Mapping[str, np.ndarray]:
    """Role → (X, Y, Z) or (X, Y, Z, T) in RAS order: HU, s, mL/100 g/min, mL/100 g, 10⁻⁶ mm²/s; DWI of arbitrary gain.

    A CT of the whole head in eighths of HU, so that integers with a slope can hold it; a bolus at 8 s of 40; everything
    else is 0 outside the brain. "brain" is the truth.
    """
    rng = np.random.default_rng(seed)
    hu, brain, sizes = head(SPACING, slab_mm=72.0, scale=rng.uniform(0.92, 1.0), noise=0.0)
    grey, fluid = brain & (hu > GREY - 4), brain & (hu < VENTRICLE + 6)
    where = np.array([rng.choice([-1, 1]) * 36.0, rng.uniform(-25, 25), 0.0])
    axes = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(hu.shape, sizes, strict=True)], indexing="ij")
    distance = np.sqrt(sum((a - w) ** 2 for a, w in zip(axes, where, strict=True)))
    lesion = brain & ~fluid & (distance < LESION_MM)

    def in_brain(white: float, grey_: float, fluid_: float, lesion_: float, noise: float) -> np.ndarray:
        values = np.select([lesion, fluid, grey], [lesion_, fluid_, grey_], white)
        return np.where(brain, (values * (1 + rng.normal(0, noise, hu.shape))).clip(1e-3), 0).astype(np.float32)

    delay = np.where(lesion, 5.0, 0.0) + rng.uniform(0, 0.5)
    late = (np.arange(FRAMES) - ARRIVAL_S - delay[..., None]).clip(0)
    bolus = in_brain(5, 10, 1, 3, 0.1)[..., None] * (late / 6) ** 2 * np.exp(2 - late / 3)
    ctp = hu[..., None] + bolus + rng.normal(0, 2.0, bolus.shape)
    return {
        "ncct": _eighths(hu + rng.normal(0, 2.0, hu.shape)),
        "ctp": _eighths(ctp),
        "cbf": in_brain(25, 60, 3, 8, 0.1),
        "cbv": in_brain(2, 4, 0.3, 1.5, 0.1),
        "mtt": in_brain(4.8, 4, 6, 11, 0.1),
        "tmax": in_brain(1.5, 1, 2, 9, 0.1),
        "dwi": in_brain(1, 1.2, 0.5, 2.2, 0.05) * np.float32(rng.uniform(100, 400)),
        "adc": in_brain(750, 850, 2600, 420, 0.05),
        "lesion": lesion,
        "brain": brain,
    }


def _eighths(values: np.ndarray) -> np.ndarray:
    return (np.round(values * 8) / 8).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------ encoding


@dataclass(frozen=True)
class Encoding:
    """How numbers, axes and times are stored in files.

    axes: orientation of the files.
    tilt: degrees about the left–right axis.
    adc: what ADC is multiplied by.
    maps: whether perfusion maps are in mL/g/min, mL/g and ms.
    mask: what masks hold inside, as uint16 with a slope of 1/65535; plain ones where None. A resampled mask may hold
        less than 1.
    ct_offset: what is added to HU.
    ct_slope: whether CT is int16 with slope and intercept.
    jitter: mm by which the affines of one case differ.
    interval: seconds between frames that the header of a series says; it says nothing where None.
    fifth_axis: whether a series has a singleton fifth axis.
    """

    axes: str = "LAS"
    tilt: float = 0.0
    adc: float = 1.0
    maps: bool = False
    mask: float | None = None
    ct_offset: float = 0.0
    ct_slope: bool = False
    jitter: float = 0.0
    interval: float | None = None
    fifth_axis: bool = False


PLAIN = Encoding()
ENCODINGS = {
    "adc-1e-3": Encoding(adc=1e-3),
    "adc-mm2": Encoding(adc=1e-6),
    "maps": Encoding(maps=True),
    "mask-65535": Encoding(mask=1.0),
    "mask-resampled": Encoding(mask=0.7),
    "int16": Encoding(ct_slope=True),
    "hu-1024": Encoding(ct_offset=1024.0),
    "int16-hu-1024": Encoding(ct_slope=True, ct_offset=1024.0),
    "LPS": Encoding(axes="LPS"),
    "RAS": Encoding(axes="RAS"),
    "SPR": Encoding(axes="SPR"),
    "oblique": Encoding(tilt=15.0),
    "jitter": Encoding(jitter=1.6e-5),
    "header-time": Encoding(interval=1.0),
    "all": Encoding("LPS", 15.0, 1e-3, True, 1.0, 1024.0, True, 1.6e-5, 1.0, True),
}


def write_case(paths: Mapping[str, Path], images: Mapping[str, np.ndarray], encoding: Encoding = PLAIN) -> None:
    """Write the files of one case: those roles that both have."""
    for number, (role, path) in enumerate((r, p) for r, p in paths.items() if r in images):
        image = nib.Nifti1Image(*_stored(role, images[role], encoding))
        image.affine[0, 3] += encoding.jitter * (number % 2)
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(encoding.axes))
        )
        turned = image.as_reoriented(turn)
        if role in ("ncct", "ctp") and encoding.ct_slope:
            turned.header.set_slope_inter(0.125, -64.0)
        elif role in ("lesion", "brain") and encoding.mask is not None:
            turned.header.set_slope_inter(1 / 65535, 0.0)
        if role == "ctp" and encoding.interval is not None:
            state_interval(turned, encoding.interval)
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(turned, path)


def state_interval(image: nib.Nifti1Image, seconds: float) -> None:
    """Say in the header how far apart the frames of a series are."""
    image.header.set_xyzt_units("mm", "sec")
    zooms = image.header.get_zooms()
    image.header.set_zooms((*zooms[:3], seconds, *zooms[4:]))


def _stored(role: str, values: np.ndarray, encoding: Encoding) -> tuple[np.ndarray, np.ndarray]:
    if role in ("lesion", "brain"):
        values = (
            values.astype(np.uint8) if encoding.mask is None else (values * encoding.mask * 65535).astype(np.uint16)
        )
    elif role in ("ncct", "ctp"):
        offset = values + np.float32(encoding.ct_offset)
        values = np.round((offset + 64) * 8).astype(np.int16) if encoding.ct_slope else offset
    elif role in MAPS and encoding.maps:
        values = values * np.float32(1000 if role in ("mtt", "tmax") else 0.01)
    elif role == "adc":
        values = values * np.float32(encoding.adc)
    if role == "ctp" and encoding.fifth_axis:
        values = values[..., None]
    cos, sin = np.cos(np.deg2rad(encoding.tilt)), np.sin(np.deg2rad(encoding.tilt))
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    affine = nib.affines.from_matvec(rotation @ np.diag(SPACING), [-90.0, -110.0, 4.0])
    return values, affine


# ------------------------------------------------------------------------------------------------------------- layouts


@dataclass(frozen=True)
class Names:
    """How a release of ISLES'24 spells its folders and files."""

    below: str = "."
    raw: str = "raw_data"
    patient: str = "sub-stroke"
    session: str = "ses-0"
    lesion: str = "space-ncct_lesion-msk"
    ending: str = ".nii.gz"


RELEASED = Names()
NAMES = [
    Names(*spelling)
    for spelling in product(
        (".", "train"),
        ("raw_data", "rawdata"),
        ("sub-stroke", "sub-strokecase"),
        ("ses-0", "ses-000"),
        ("space-ncct_lesion-msk", "lesion-msk"),
        (".nii.gz", ".nii"),
    )
]


def isles24(root: Path, number: int, names: Names = RELEASED) -> Paths:
    """Role → where ISLES'24 has the file of a patient."""
    name = f"{names.patient}{number:04d}"
    raw, registered = (root / names.below / folder / name for folder in (names.raw, "derivatives"))
    first, second = f"{names.session}1", f"{names.session}2"
    start = f"{name}_{first}_space-ncct_"
    return {
        "ncct": raw / first / f"{name}_{first}_ncct{names.ending}",
        "ctp": registered / first / f"{start}ctp{names.ending}",
        **{m: registered / first / "perfusion-maps" / f"{start}{m}{names.ending}" for m in MAPS},
        **{m: registered / second / f"{name}_{second}_space-ncct_{m}{names.ending}" for m in ("dwi", "adc")},
        "lesion": registered / second / f"{name}_{second}_{names.lesion}{names.ending}",
    }


def brain_beside(ctp: Path) -> Path:
    """Where ISLES'24 would have a brain mask."""
    return ctp.with_name(ctp.name.replace("_ctp", "_brain-msk"))


def isles22(root: Path, number: int, raw: str = "rawdata", folders: bool = False) -> Paths:
    """Role → where ISLES'22 has the file of a patient; `folders` puts `dwi` and `anat` between."""
    name, session = f"sub-strokecase{number:04d}", "ses-0001"
    start = f"{name}_{session}_"
    between = {"dwi": "dwi", "adc": "dwi", "flair": "anat"} if folders else {}
    return {
        **{
            role: root / raw / name / session / between.get(role, "") / f"{start}{word}.nii.gz"
            for role, word in (("dwi", "dwi"), ("adc", "adc"), ("flair", "FLAIR" if folders else "flair"))
        },
        "lesion": root / "derivatives" / name / session / f"{start}msk.nii.gz",
    }


SMIR = {
    "ncct": "CT",
    "ctp": "CT_4DPWI",
    "cbf": "CT_CBF",
    "cbv": "CT_CBV",
    "mtt": "CT_MTT",
    "tmax": "CT_Tmax",
    "lesion": "OT",
}


def isles18(root: Path, number: int, part: str = "TRAINING") -> Paths:
    """Role → where ISLES'18 has the file of a patient; there is no lesion in `TESTING`."""
    stems = {role: f"SMIR.Brain.XX.O.{kind}.{345000 + 10 * number + i}" for i, (role, kind) in enumerate(SMIR.items())}
    folder = root / part / f"case_{number}"
    return {
        role: folder / stem / f"{stem}.nii" for role, stem in stems.items() if (role, part) != ("lesion", "TESTING")
    }


def case_folder(root: Path, name: str) -> Paths:
    """Role → where a case folder has the file."""
    return {role: root / name / f"{'mask' if role == 'brain' else role}.nii.gz" for role in (*IMAGES, "brain")}


def decathlon(root: Path, name: str) -> Paths:
    """Role → a file of a decathlon-style folder: images and labels of all patients in a folder each."""
    folders = {"lesion": "labelsTr", "ctp": "imagesTr"}
    return {role: root / folders.get(role, f"{role}Tr") / f"{name}.nii.gz" for role in IMAGES}


def write_datalist(path: Path, content: object) -> None:
    """Write a datalist; paths in it become relative to it."""

    def relative(value: object) -> str:
        return f"./{Path(str(value)).relative_to(path.parent)}"

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, default=relative))


# -------------------------------------------------------------------------------------------------------------- faults

# Breaks one file of a case, given as role → file, and returns the file that has to be named.
Damage = Callable[[Paths], Path]


def values_of(path: Path) -> np.ndarray:
    """The numbers of a file, in its own order."""
    return nib.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32)


def affine_of(path: Path) -> np.ndarray:
    return np.array(nib.Nifti1Image.from_filename(path).affine)


def removed(role: str) -> Damage:
    def damage(files: Paths) -> Path:
        files[role].unlink()
        return files[role]

    return damage


def truncated(role: str) -> Damage:
    """A download that broke off."""

    def damage(files: Paths) -> Path:
        files[role].write_bytes(files[role].read_bytes()[:-500])
        return files[role]

    return damage


def changed(role: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    """Other voxels in the same file; its header still says how far apart frames are, where it did."""

    def damage(files: Paths) -> Path:
        header = nib.Nifti1Image.from_filename(files[role]).header
        changed_image = nib.Nifti1Image(change(values_of(files[role])), affine_of(files[role]))
        if changed_image.ndim == 4 and header.get_xyzt_units()[1] == "sec":
            state_interval(changed_image, float(header.get_zooms()[3]))
        nib.save(changed_image, files[role])
        return files[role]

    return damage


def not_finite(role: str) -> Damage:
    def divided_by_nothing(values: np.ndarray) -> np.ndarray:
        values[5:8, 9, 2] = np.nan
        return values

    return changed(role, divided_by_nothing)


def shifted(role: str, mm: float = 3.0) -> Damage:
    def damage(files: Paths) -> Path:
        affine = affine_of(files[role])
        affine[1, 3] += mm
        return save(files[role], values_of(files[role]), affine)

    return damage


def copied(role: str, onto: str) -> Damage:
    """The same image saved as two."""

    def damage(files: Paths) -> Path:
        shutil.copy(files[role], files[onto])
        return files[onto]

    return damage


def half(values: np.ndarray) -> np.ndarray:
    """0 in more than half of the field of view, as of a scan that did not cover it."""
    values = values.copy()
    values[:, : round(values.shape[1] * 0.6)] = 0
    return values


def elsewhere(values: np.ndarray) -> np.ndarray:
    """A lesion in the air beside the head, as a lost flip would put it."""
    moved = np.zeros_like(values)
    moved[:4, :4] = 1
    return moved


def twice_as_bright_in_fluid(values: np.ndarray) -> np.ndarray:
    """As without diffusion weighting; fluid is what is darkest in the brain."""
    brain = values > 0
    median = np.median(values[brain])
    return np.where(brain & (values < 0.75 * median), 2 * median, values)


def exponential(values: np.ndarray) -> np.ndarray:
    """An exponential ADC of b = 700 s/mm², whose median is that of ADC in 10⁻³ mm²/s."""
    return np.where(values > 0, np.exp(-values * 0.7e-3), 0).astype(np.float32)


def without_bolus(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., :1], values.shape[-1], axis=-1) + _flicker(values.shape[-1])


def already_flooded(values: np.ndarray) -> np.ndarray:
    """The scan starts at the peak."""
    return values[..., 14:]


def started_late(values: np.ndarray) -> np.ndarray:
    """The bolus arrives with the first frames."""
    return values[..., 8:]


def stopped_early(values: np.ndarray) -> np.ndarray:
    """The scan stops while contrast flows in."""
    return values[..., :12]


def stopped_soon(values: np.ndarray) -> np.ndarray:
    """The scan stops after the peak, before half of the phases."""
    return values[..., :24]


def _flicker(frames: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.05, frames).astype(np.float32)


def doubled(role: str) -> Damage:
    """A second file for a role, unpacked beside the packed one."""

    def damage(files: Paths) -> Path:
        other = files[role].with_suffix("")
        nib.save(nib.Nifti1Image.from_filename(files[role]), other)
        return other

    return damage


def stray_lesion(alone: bool) -> Damage:
    """A mask in the MRI's own space, beside the right one or instead of it."""

    def damage(files: Paths) -> Path:
        path = files["lesion"]
        stray = path.with_name(path.name.replace("_space-ncct", "").removesuffix(".gz"))
        nib.save(nib.Nifti1Image(np.ones((20, 20, 20), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])), stray)
        if alone:
            path.unlink()
        return stray

    return damage


def mistimed(content: object) -> Damage:
    """A sidecar that does not fit its series."""

    def damage(files: Paths) -> Path:
        sidecar = sidecar_of(files["ctp"])
        sidecar.write_text(json.dumps(content))
        return sidecar

    return damage


def duplicated(earlier: Paths) -> Damage:
    """Another patient's images under this one's name."""

    def damage(files: Paths) -> Path:
        for role in files:
            shutil.copy(earlier[role], files[role])
        return earlier["ctp"].parents[1]

    return damage


def misnamed(files: Paths) -> Path:
    """A patient's folder that no file can be called after."""
    folder = files["ctp"].parents[1]
    return folder.rename(folder.with_name(f"{folder.name} (2)"))


def empty_brain(files: Paths) -> Path:
    """A brain mask without brain."""
    return save(brain_beside(files["ctp"]), np.zeros(values_of(files["dwi"]).shape, np.uint8), affine_of(files["dwi"]))
