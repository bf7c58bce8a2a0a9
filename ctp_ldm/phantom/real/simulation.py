"""Real patients with a simulated CT: their own DWI, ADC and lesion, and the CT perfusion that may have gone before."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

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
from ctp_ldm.phantom.mix import Mix
from ctp_ldm.phantom.parallel import each_case, shared_atlas
from ctp_ldm.phantom.patient import Settings
from ctp_ldm.phantom.real.files import MriFiles, faults_of, find_patients, read_patient
from ctp_ldm.phantom.real.patient import draw_real_streams, draw_real_truth
from ctp_ldm.phantom.real.slab import thick_slices
from ctp_ldm.phantom.simulate import scan_ct
from ctp_ldm.phantom.tree import split

PARTS = (70, 15, 15)
UNKNOWN = {"scar_ml": "n/a", "leukoaraiosis": "n/a"}  # old damage is in the real images, whatever there is of it


def simulate_from_mri(
    source: Path, out: Path, seed: int = 0, workers: int = 2, mix: Mix = Mix(), thickness_mm: float = 5.0
) -> list[Path]:
    """Simulate the CT perfusion of real patients, and write both as an ISLES'24-style tree, as `write_phantom` does.

    DWI, ADC and lesion mask are the real ones, averaged to thicker slices where theirs are thin. Whose CT it is follows
    from them: tissue, skull, infarct. Everything else is drawn: the flow deficit around the infarct, the bolus, the
    noise, 1-2 mm of misregistration. The same seed, mix and thickness give a patient the same files, byte by byte; an
    interrupted run is resumed by repeating it.

    Args:
        source: an ISLES'22 tree, or `dwi`, `adc` and `lesion` (.nii or .nii.gz) in a folder or in folders of it.
        out: folder to write; created if missing.
        seed: which simulation, 0 or more.
        workers: processes to work in parallel.
        mix: how often what happens. Patients with a lesion have no other kind; those without are lesion-free or
            hypoperfused.
        thickness_mm: of slices to average to.

    Returns:
        The folders of the patients, in the order of their names.

    Raises:
        ValueError: an argument is out of range, or files cannot be used: every fault of every patient in one error.
        FileNotFoundError: `source` holds no patients.
        NotADirectoryError: `out` is a file.
        FileExistsError: `out` holds something else than such a simulation with these settings.
    """
    check("seed", seed, seed >= 0, "at least 0")
    check("workers", workers, workers >= 1, "at least 1")
    check("thickness_mm", thickness_mm, thickness_mm > 0, "above 0")
    out = Path(out)
    settings = Settings(int(seed), "standard", mix)
    patients = find_patients(Path(source))
    ours = {"Version": VERSION, "from_mri": True, "seed": int(seed), "mix": asdict(mix), "thickness_mm": thickness_mm}
    open_tree(
        out, ours, "Diffusion MRI with simulated CT perfusion", "The MRI and its lesions are real, CT is simulated."
    )
    missing = [p for p in patients if not all(path.exists() for path in _files(out, p.name).values())]
    _refuse_faults(patients, missing, workers)

    write = partial(write_real_patient, out, settings, thickness_mm)
    for _ in tqdm(each_case(write, missing, workers), total=len(missing), desc=f"CT {out}", unit="patient"):
        pass
    rows = [json.loads(_files(out, p.name)["row"].read_text()) for p in patients]
    write_file(out / "participants.tsv", tsv_bytes(rows))
    # Names may say where and when a patient was scanned: drawn, so that every part has its share of each.
    order = np.random.default_rng(seed).permutation(len(patients))
    write_file(out / "split.json", json_bytes(split([patients[i].name for i in order], PARTS)))
    write_datalist(out, [p.name for p in patients])
    return [out / "derivatives" / p.name for p in patients]


def _files(out: Path, name: str) -> dict[str, Path]:
    return {**patient_files(out, name), "row": out / "truth" / name / f"{name}_patient.json"}


def _refuse_faults(patients: Sequence[MriFiles], missing: Sequence[MriFiles], workers: int) -> None:
    """Raises with all faults: of where files lie for all patients, of what is in them for those yet to simulate."""
    read = tqdm(each_case(faults_of, missing, workers), total=len(missing), desc="reading", unit="patient")
    found = {p.name: p.faults for p in patients} | dict(zip([p.name for p in missing], read, strict=True))
    faults = [(name, fault) for name, of_patient in found.items() for fault in of_patient]
    if faults:
        listing = "\n  ".join(f"{name}: {fault}" for name, fault in sorted(faults))
        raise ValueError(f"{len(faults)} fault(s):\n  {listing}\nMend them, or take these patients out.")


def write_real_patient(out: Path, settings: Settings, thickness_mm: float, patient: MriFiles) -> None:
    """Simulates one patient's CT and writes all files, each complete or not at all."""
    mri = read_patient(patient)
    slab = thick_slices(mri.grid, thickness_mm)
    rng = draw_real_streams(settings, patient.name)
    truth = draw_real_truth(rng, settings, patient.name, shared_atlas(), mri, slab)
    computed = scan_ct(rng, truth)
    files, grid = _files(out, patient.name), slab.grid
    write_ct(files, truth, computed)
    dwi, adc, lesion = slab(mri.dwi), slab(mri.adc), slab(mri.lesion) > 0.5
    write_file(files["dwi"], nifti_bytes(dwi, grid, step=float(np.abs(dwi).max()) / np.iinfo(np.int16).max))
    write_file(files["adc"], nifti_bytes(np.rint(adc).clip(-32768, 32767).astype(np.int16), grid))
    write_file(files["lesion"], nifti_bytes(lesion.astype(np.uint8), grid))
    row = {**participant(truth.patient, lesion.sum() * grid.voxel_ml), "participant_id": patient.name, **UNKNOWN}
    write_file(files["row"], json_bytes(row))
