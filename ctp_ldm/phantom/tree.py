"""Files: one patient, and many in parallel."""

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple

import nibabel as nib
import numpy as np
from tqdm import tqdm

from ctp_ldm.phantom import ct, mri
from ctp_ldm.phantom.anatomy import Atlas, build_head, load_atlas
from ctp_ldm.phantom.grid import Grid
from ctp_ldm.phantom.haemodynamics import patient_bolus, perfusion
from ctp_ldm.phantom.lesions import draw_lesion
from ctp_ldm.phantom.patient import SIZES, Settings, draw_patient

VERSION = 1
"""Raised whenever the same settings come to give other voxels."""

DESCRIPTION = "dataset_description.json"

_atlas: Atlas | None = None


class Streams(NamedTuple):
    """A patient's independent random streams: changing one part of the phantom leaves the others as they were."""

    hidden: np.random.Generator
    lesion: np.random.Generator
    circulation: np.random.Generator
    ct: np.random.Generator
    mri: np.random.Generator


def write_phantom(
    out: Path,
    cases: int = 20,
    seed: int = 0,
    size: Literal["tiny", "small", "full"] = "small",
    workers: int = 2,
    lesion_free: float = 0.15,
) -> list[Path]:
    """Simulate stroke patients and write them as an ISLES'24-style tree.

    The same seed, size and lesion_free give the same files, byte by byte, whatever `cases` and `workers` are. An
    interrupted run is resumed by repeating it; a larger `cases` adds patients. Call it from under
    `if __name__ == "__main__":` when `workers` > 1, for each worker is a fresh Python process.

    Args:
        out: folder to write; created if missing.
        cases: number of patients.
        seed: which phantom, 0 or more.
        size: tiny (32 x 40 x 6 voxels, for tests), small (96 x 112 voxels of 2 mm) or full (192 x 224 of 1 mm).
        workers: processes to work in parallel.
        lesion_free: fraction of patients without infarct or perfusion deficit.

    Returns:
        The folders of the cases, in order.

    Raises:
        ValueError: an argument is out of range.
        NotADirectoryError: `out` is a file.
        FileExistsError: `out` holds something else than a phantom with these settings.
    """
    _check("cases", cases, cases >= 1, "at least 1")
    _check("seed", seed, seed >= 0, "at least 0")
    _check("size", size, size in SIZES, f"one of {', '.join(SIZES)}")
    _check("workers", workers, workers >= 1, "at least 1")
    _check("lesion_free", lesion_free, 0 <= lesion_free <= 1, "a fraction from 0 to 1")
    out = Path(out)
    settings = Settings(int(seed), size, float(lesion_free))
    _open_tree(out, settings)

    wanted = range(1, cases + 1)
    missing = [i for i in wanted if not all(path.exists() for path in case_files(out, i))]
    for _ in tqdm(
        _run(partial(write_case, out, settings), missing, workers), total=len(missing), desc=f"phantom {out}"
    ):
        pass
    _write_participants(out, settings)
    return [case_folder(out, i) for i in wanted]


def _check(name: str, found: object, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"{name}: found {found!r}, expected {expected}")


def _open_tree(out: Path, settings: Settings) -> None:
    """Creates the tree's folder and description, or makes sure that the one there is of the same phantom."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a new or empty folder for the phantom")
    out.mkdir(parents=True, exist_ok=True)
    ours = {"Version": VERSION, **settings._asdict()}
    path = out / DESCRIPTION
    mend = "Name a new or empty folder, or delete this one."
    if path.exists():
        try:
            theirs = json.loads(path.read_text()).get("Phantom")
        except (ValueError, AttributeError):
            theirs = None
        if theirs is None:
            raise FileExistsError(f"{path} describes another dataset, not a phantom. {mend}")
        if theirs != ours:
            raise FileExistsError(f"{out} holds a phantom with settings {theirs}, asked for is {ours}. {mend}")
    elif any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty and holds no phantom ({DESCRIPTION} is missing). {mend}")
    else:
        description = {
            "Name": "Digital CT perfusion and diffusion MRI phantom",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "Description": "Simulated. No image in this dataset is of a person.",
            "GeneratedBy": [{"Name": "ctp-ldm phantom"}],
            "Phantom": ours,
        }
        _write(path, _json(description))


def _run(task: partial[None], indices: list[int], workers: int) -> Iterator[None]:
    """Runs `task` for each index, in this process or in several."""
    if not indices:
        return
    atlas = shared_atlas()
    workers = min(workers, len(indices))
    if workers == 1:
        yield from map(task, indices)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _share_atlas, (atlas,)) as pool:
        try:
            yield from pool.map(task, indices)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def shared_atlas() -> Atlas:
    """The atlas, made at first use in this process."""
    global _atlas
    if _atlas is None:
        _atlas = load_atlas()
    return _atlas


def _share_atlas(atlas: Atlas) -> None:
    global _atlas
    _atlas = atlas


def case_folder(out: Path, index: int) -> Path:
    """The folder of case `index`, from 1."""
    return out / "derivatives" / f"sub-stroke{index:04d}"


def case_files(out: Path, index: int) -> list[Path]:
    """The five files of case `index`: CTP and its sidecar, DWI, ADC, lesion mask."""
    folder = case_folder(out, index)
    names = ["ses-01/{}_ses-01_space-ncct_ctp.nii.gz", "ses-01/{}_ses-01_space-ncct_ctp.json"]
    names += [f"ses-02/{{}}_ses-02_space-ncct_{kind}.nii.gz" for kind in ("dwi", "adc", "lesion-msk")]
    return [folder / name.format(folder.name) for name in names]


def draw_streams(settings: Settings, index: int) -> Streams:
    """The random streams of case `index`, which depend on nothing but the seed and the index."""
    return Streams(*map(np.random.default_rng, np.random.SeedSequence((settings.seed, index)).spawn(5)))


def write_case(out: Path, settings: Settings, index: int) -> None:
    """Simulates case `index` and writes its five files, each complete or not at all."""
    rng = draw_streams(settings, index)
    patient = draw_patient(rng.hidden, settings, index)
    head = build_head(shared_atlas(), patient)
    lesion = draw_lesion(rng.lesion, patient, head)
    flow = perfusion(rng.circulation, patient, head, lesion.relative_flow)
    series = ct.series(rng.ct, patient, head, lesion, flow, patient_bolus(patient))
    dwi, adc = mri.diffusion(rng.mri, patient, head, lesion)
    mask = (lesion.core > 0.5).astype(np.uint8)

    times = patient.frame_times_s
    ctp_path, sidecar_path, *mri_paths = case_files(out, index)
    _write(ctp_path, _nifti(series, patient.grid, times[1] - times[0]))
    _write(sidecar_path, _json({"FrameTimesStart": times}))
    for path, image in zip(mri_paths, (dwi, adc, mask), strict=True):
        _write(path, _nifti(image, patient.grid))


def _nifti(image: np.ndarray, grid: Grid, frame_interval: float | None = None) -> bytes:
    """A compressed NIfTI-1 file; the same image always gives the same bytes."""
    nifti = nib.Nifti1Image(image, grid.affine)
    nifti.set_qform(grid.affine, code=1)
    nifti.set_sform(grid.affine, code=1)
    nifti.header.set_xyzt_units("mm", "sec")
    if frame_interval is not None:
        nifti.header.set_zooms((*nifti.header.get_zooms()[:3], frame_interval))
    # Noise hardly compresses: the fastest level loses a few per cent of size and is several times as fast.
    return gzip.compress(nifti.to_bytes(), compresslevel=1, mtime=0)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    """Writes a file so that it is never seen half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_participants(out: Path, settings: Settings) -> None:
    """Writes participants.tsv with a row for every complete case of the tree, also of earlier, longer runs."""
    folders = (out / "derivatives").glob("sub-stroke*")
    indices = sorted(int(folder.name.removeprefix("sub-stroke")) for folder in folders)
    complete = [i for i in indices if all(path.exists() for path in case_files(out, i))]
    rows = [_participant(out, settings, i) for i in complete]
    _write(out / "participants.tsv", _tsv(rows))


def _participant(out: Path, settings: Settings, index: int) -> dict[str, str]:
    """One row: hidden parameters of the patient, and the volume that the lesion mask really has."""
    patient = draw_patient(draw_streams(settings, index).hidden, settings, index)
    mask = nib.Nifti1Image.from_filename(case_files(out, index)[-1])
    lesion_ml = np.count_nonzero(np.asanyarray(mask.dataobj)) * patient.grid.voxel_ml
    lesion = patient.kind != "lesion-free"
    return {
        "participant_id": patient.name,
        "kind": patient.kind,
        "lesion_ml": f"{lesion_ml:.2f}",
        "side": patient.side if lesion else "n/a",
        "territory": patient.territory if patient.kind == "territorial" else "n/a",
        "onset_minutes": f"{patient.onset_minutes:.0f}" if lesion else "n/a",
        "collaterals": f"{patient.collaterals:.2f}" if lesion else "n/a",
        "mri_hours": f"{patient.mri_hours:.1f}" if lesion else "n/a",
    }


def _tsv(rows: Iterable[dict[str, str]]) -> bytes:
    rows = list(rows)
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    return ("\n".join(lines) + "\n").encode()
