"""The tree that simulated patients are written as: names, contents, and files that appear whole or not at all."""

import gzip
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ctp_ldm.phantom.grid import Grid
from ctp_ldm.phantom.patient import Patient
from ctp_ldm.phantom.simulate import Computed, Truth

VERSION = 4
"""Raised whenever the same settings come to give other voxels."""

DESCRIPTION = "dataset_description.json"
MAPS = ("cbf", "cbv", "mtt", "tmax")
TRUTH = ("cbf", "cbv", "mtt", "delay", "core", "tissue")
UNLISTED = {"times", "true_core", "true_tissue"}
"""Not in the datalist: what is no image, and what would give the lesion away."""


def check(name: str, found: object, valid: bool, expected: str) -> None:
    """Raises ValueError for an argument that is not valid."""
    if not valid:
        raise ValueError(f"{name}: found {found!r}, expected {expected}")


def open_tree(out: Path, ours: dict[str, Any], name: str, description: str) -> None:
    """Creates the tree's folder and description, or makes sure that the one there has the same settings `ours`."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a new or empty folder for the phantom")
    out.mkdir(parents=True, exist_ok=True)
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
        content = {
            "Name": name,
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "Description": description,
            "GeneratedBy": [{"Name": "ctp-ldm phantom"}],
            "Phantom": ours,
        }
        write_file(path, json_bytes(content))


def patient_files(out: Path, name: str) -> dict[str, Path]:
    """The files of a patient: what ISLES'24 has of one, and the truth beside it (keys `true_…`)."""
    folder = out / "derivatives" / name
    ct, mri = (folder / session / f"{name}_{session}_space-ncct" for session in ("ses-01", "ses-02"))
    maps, truth = ct.parent / "perfusion-maps" / ct.name, out / "truth" / name / f"{name}_space-ncct"
    return {
        "ctp": _suffixed(ct, "ctp.nii.gz"),
        "times": _suffixed(ct, "ctp.json"),
        **{kind: _suffixed(maps, f"{kind}.nii.gz") for kind in MAPS},
        "ncct": out / "raw_data" / name / "ses-01" / f"{name}_ses-01_ncct.nii.gz",
        **{kind: _suffixed(mri, f"{kind}.nii.gz") for kind in ("dwi", "adc")},
        "lesion": _suffixed(mri, "lesion-msk.nii.gz"),
        **{f"true_{kind}": _suffixed(truth, f"{kind}.nii.gz") for kind in TRUTH},
    }


def _suffixed(stem: Path, suffix: str) -> Path:
    return stem.with_name(f"{stem.name}_{suffix}")


def write_datalist(out: Path, names: Iterable[str]) -> None:
    """Writes `datalist.json`: the name of each patient, and role → image as a path from `out`.

    A layout that reads such a list finds the true perfusion too, for which ISLES'24 has no place.
    """
    cases = [
        {"name": name}
        | {r: p.relative_to(out).as_posix() for r, p in patient_files(out, name).items() if r not in UNLISTED}
        for name in names
    ]
    write_file(out / "datalist.json", json_bytes({"cases": cases}))


def write_ct(files: dict[str, Path], truth: Truth, computed: Computed) -> None:
    """Writes what CT shows of a patient, and the truth behind it."""
    flow, times = truth.flow, truth.patient.frame_times_s
    images = {
        "ctp": computed.series,
        **dict(zip(MAPS, computed.maps, strict=True)),
        "ncct": computed.unenhanced,
        "true_cbf": flow.cbf,
        "true_cbv": flow.cbv,
        "true_mtt": np.where(flow.cbf > 0.1, flow.mtt, 0),
        "true_delay": np.where(flow.cbf > 0.1, flow.delay, 0),
        "true_core": truth.lesion.core,
        "true_tissue": truth.tissue,
    }
    write_file(files["times"], json_bytes({"FrameTimesStart": times}))
    for name, image in images.items():
        interval = times[1] - times[0] if name == "ctp" else None
        write_file(files[name], nifti_bytes(image, truth.patient.grid, interval))


def participant(patient: Patient, lesion_ml: float) -> dict[str, str]:
    """One row: hidden parameters of the patient, and the volume that the lesion mask really has."""
    ill, territorial = patient.kind != "lesion-free", patient.kind in ("territorial", "hypoperfusion")
    recanalised = "never" if math.isinf(patient.recanalised_minutes) else f"{patient.recanalised_minutes:.0f}"
    row = {
        "participant_id": (True, patient.name),
        "kind": (True, patient.kind),
        "lesion_ml": (True, f"{lesion_ml:.2f}"),
        "low_flow_ml": (ill, f"{patient.low_flow_ml:.2f}"),
        "side": (ill, patient.side),
        "territory": (territorial, patient.territory),
        "onset_minutes": (ill, f"{patient.onset_minutes:.0f}"),
        "recanalised_minutes": (ill, recanalised),
        "collaterals": (ill, f"{patient.collaterals:.2f}"),
        "mri_hours": (ill, f"{patient.mri_hours:.1f}"),
        "scar_ml": (True, f"{patient.scar_ml:.2f}"),
        "leukoaraiosis": (True, f"{patient.leukoaraiosis:.2f}"),
        "scan": (True, patient.scan),
        "arrival_s": (True, f"{patient.arrival_s:.1f}"),
        "ct_noise_hu": (True, f"{patient.ct_noise_hu:.1f}"),
    }
    return {name: value if known else "n/a" for name, (known, value) in row.items()}


def nifti_bytes(image: np.ndarray, grid: Grid, frame_interval: float | None = None, step: float = 0.01) -> bytes:
    """A compressed NIfTI-1 file; the same image always gives the same bytes. Floats are stored in units of `step`."""
    fine = image.dtype.kind == "f"
    stored = np.rint(image / step).clip(-32768, 32767).astype(np.int16) if fine else image
    nifti = nib.Nifti1Image(stored, grid.affine)
    if fine:
        nifti.header.set_slope_inter(step, 0)
    nifti.set_qform(grid.affine, code=1)
    nifti.set_sform(grid.affine, code=1)
    nifti.header.set_xyzt_units("mm", "sec")
    if frame_interval is not None:
        nifti.header.set_zooms((*nifti.header.get_zooms()[:3], frame_interval))
    # Noise hardly compresses: the fastest level loses a few per cent of size and is several times as fast.
    return gzip.compress(nifti.to_bytes(), compresslevel=1, mtime=0)


def json_bytes(content: dict[str, Any]) -> bytes:
    """A JSON file."""
    return (json.dumps(content, indent=2) + "\n").encode()


def write_file(path: Path, content: bytes) -> None:
    """Writes a file so that it is never seen half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def tsv_bytes(rows: Iterable[dict[str, str]]) -> bytes:
    """A table with tabs, its columns named by the keys of the first row."""
    rows = list(rows)
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    return ("\n".join(lines) + "\n").encode()
