"""Many simulated patients, as a tree of files."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from tqdm import tqdm

from ctp_ldm.phantom.files import (
    VERSION,
    check,
    json_bytes,
    nifti_bytes,
    open_tree,
    participant,
    patient_files,
    tsv_bytes,
    write_ct,
    write_datalist,
    write_file,
)
from ctp_ldm.phantom.mix import Mix, SizeName
from ctp_ldm.phantom.parallel import each_case, shared_atlas
from ctp_ldm.phantom.patient import SIZES, Settings, draw_patient
from ctp_ldm.phantom.simulate import draw_streams, draw_truth, scan_ct, scan_mri


def write_phantom(
    out: Path,
    cases: int = 20,
    seed: int = 0,
    size: SizeName = "small",
    workers: int = 2,
    mix: Mix = Mix(),
    parts: tuple[int, int, int] = (70, 15, 15),
) -> list[Path]:
    """Simulate stroke patients and write them as an ISLES'24-style tree.

    The truth lies beside it; `datalist.json` names it too, and `split.json` says who trains, validates and tests.

    The same seed, size and mix give the same files, byte by byte, whatever `cases` and `workers` are. An
    interrupted run is resumed by repeating it; a larger `cases` adds patients. Call it from under
    `if __name__ == "__main__":` when `workers` > 1, for each worker is a fresh Python process.

    Args:
        out: folder to write; created if missing.
        cases: number of patients.
        seed: which phantom, 0 or more.
        size: tiny (32 x 40 x 6 voxels, for tests), small (96 x 112 of about 2 mm, 5-8 mm thick), standard (96 x 112 of
            2 mm, 5 mm thick) or full (192 x 224 of 1 mm).
        workers: processes to work in parallel.
        mix: how often what happens.
        parts: shares of the patients that train, validate and test, in the order of their numbers (`split.json`).

    Returns:
        The folders of the cases, in order.

    Raises:
        ValueError: an argument is out of range.
        NotADirectoryError: `out` is a file.
        FileExistsError: `out` holds something else than a phantom with these settings.
    """
    check("cases", cases, cases >= 1, "at least 1")
    check("seed", seed, seed >= 0, "at least 0")
    check("size", size, size in SIZES, f"one of {', '.join(SIZES)}")
    check("workers", workers, workers >= 1, "at least 1")
    out = Path(out)
    settings = Settings(int(seed), size, mix)
    ours = {"Version": VERSION, **settings._asdict(), "mix": asdict(settings.mix)}
    name = "Digital CT perfusion and diffusion MRI phantom"
    open_tree(out, ours, name, "Simulated. No image in this dataset is of a person.")

    wanted = range(1, cases + 1)
    missing = [i for i in wanted if not all(path.exists() for path in case_files(out, i).values())]
    for _ in tqdm(
        each_case(partial(write_case, out, settings), missing, workers), total=len(missing), desc=f"phantom {out}"
    ):
        pass
    _write_participants(out, settings)
    folders = [case_folder(out, i) for i in wanted]
    names = [folder.name for folder in folders]
    write_file(out / "split.json", json_bytes(split(names, parts)))
    write_datalist(out, names)
    return folders


def split(names: list[str], parts: tuple[int, int, int]) -> dict[str, list[str]]:
    """Part → consecutive patients: their kinds take turns, so every part has its share of each."""
    ends = [round(len(names) * sum(parts[: i + 1]) / sum(parts)) for i in range(3)]
    return {"train": names[: ends[0]], "val": names[ends[0] : ends[1]], "test": names[ends[1] :]}


def case_folder(out: Path, index: int) -> Path:
    """The folder of case `index`, from 1."""
    return out / "derivatives" / f"sub-stroke{index:04d}"


def case_files(out: Path, index: int) -> dict[str, Path]:
    """The files of case `index`, as `patient_files` has them."""
    return patient_files(out, case_folder(out, index).name)


def write_case(out: Path, settings: Settings, index: int) -> None:
    """Simulates case `index` and writes its files, each complete or not at all."""
    rng = draw_streams(settings, index)
    truth = draw_truth(rng, settings, index, shared_atlas())
    computed, diffusion = scan_ct(rng, truth), scan_mri(rng, truth)
    files = case_files(out, index)
    write_ct(files, truth, computed)
    for name, image in (("dwi", diffusion.dwi), ("adc", diffusion.adc), ("lesion", diffusion.label.astype(np.uint8))):
        write_file(files[name], nifti_bytes(image, truth.patient.grid))


def _write_participants(out: Path, settings: Settings) -> None:
    """Writes participants.tsv with a row for every complete case of the tree, also of earlier, longer runs."""
    folders = (out / "derivatives").glob("sub-stroke*")
    indices = sorted(int(folder.name.removeprefix("sub-stroke")) for folder in folders)
    complete = [i for i in indices if all(path.exists() for path in case_files(out, i).values())]
    rows = [_participant(out, settings, i) for i in complete]
    write_file(out / "participants.tsv", tsv_bytes(rows))


def _participant(out: Path, settings: Settings, index: int) -> dict[str, str]:
    patient = draw_patient(draw_streams(settings, index).hidden, settings, index)
    mask = nib.Nifti1Image.from_filename(case_files(out, index)["lesion"])
    return participant(patient, np.count_nonzero(np.asanyarray(mask.dataobj)) * patient.grid.voxel_ml)
