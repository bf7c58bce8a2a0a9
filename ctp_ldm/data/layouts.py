"""Where the files of public data sets, and of folders and lists of one's own, lie."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctp_ldm.data.cases import NIFTI, Case, Layout
from ctp_ldm.data.faults import DataFault


class ISLES24(Layout):
    """ISLES'24: `derivatives/sub-*/ses-01/…_space-ncct_ctp.nii.gz`, `ses-01/perfusion-maps/…_{cbf,cbv,mtt,tmax}.nii.gz`
    and `ses-02/…_space-ncct_{dwi,adc,lesion-msk}.nii.gz`, in the spellings of all its releases.

    `root` holds `derivatives`, or holds it under `train`. Releases write `sub-stroke0001` or `sub-strokecase0001`,
    `ses-01` or `ses-0001`, `raw_data` or `rawdata`, the lesion mask with or without `space-ncct`, files with or without
    `.gz`. The files of the CT's space are taken; where one exists, a file without `space-ncct` (a stray native-space
    mask, say) is passed over. The CT (role `ncct`) is its own space and lies in the raw data. `…_brain-msk.nii.gz` is
    taken as the brain mask when it is there. The series were resampled to one frame a second.
    """

    frame_interval = 1.0
    _sessions: Mapping[str, int] = {"dwi": 2, "adc": 2, "lesion": 2}
    _suffixes: Mapping[str, str] = {"lesion": "lesion-msk", "brain": "brain-msk"}

    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        bases = (root, root / "train")
        patients = [(base, p) for base in bases for p in sorted((base / "derivatives").glob("sub-*")) if p.is_dir()]
        return [self._case(base, patient, roles) for base, patient in patients]

    def _case(self, base: Path, patient: Path, roles: Iterable[str]) -> Case:
        files = _files([patient])
        raw = _files(base / folder / patient.name for folder in ("raw_data", "rawdata")) if "ncct" in roles else []
        search = {r: self._candidates(patient.name, r, [*files, *raw] if r == "ncct" else files) for r in roles}
        return _pick(
            patient.name, search, {role: self._expected(base, patient, role) for role in roles}, self.frame_interval
        )

    def _candidates(self, patient: str, role: str, files: Sequence[Path]) -> list[tuple[int, Path]]:
        session, suffix = self._sessions.get(role, 1), self._suffixes.get(role, role)
        name = re.compile(rf"{_patient(patient)}_ses-0*{session}(_space-ncct)?_{re.escape(suffix)}\.nii(\.gz)?")
        matches = [(name.fullmatch(path.name), path) for path in files]
        return [(int(match[1] is None), path) for match, path in matches if match]

    def _expected(self, base: Path, patient: Path, role: str) -> Path:
        number = self._sessions.get(role, 1)
        spelled = [p for p in sorted(patient.glob("ses-*")) if re.fullmatch(rf"ses-0*{number}", p.name)]
        session = spelled[0].name if spelled else f"ses-{number:02d}"
        if role == "ncct":
            raw = base / ("rawdata" if (base / "rawdata").is_dir() else "raw_data")
            return raw / patient.name / session / f"{patient.name}_{session}_ncct.nii.gz"
        folder = patient / session / "perfusion-maps" if role in ("cbf", "cbv", "mtt", "tmax") else patient / session
        return folder / f"{patient.name}_{session}_space-ncct_{self._suffixes.get(role, role)}.nii.gz"


class ISLES22(Layout):
    """ISLES'22 (MRI only): `rawdata/sub-strokecase*/ses-0001/…_{dwi,adc,flair}.nii.gz`, with or without folders `dwi`
    and `anat` between, and `derivatives/sub-strokecase*/ses-0001/…_msk.nii.gz`.

    The patients' folders lie in `rawdata`, in `raw_data` or in `root` itself. Of several sessions the first is taken.
    """

    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        parents = [root / "rawdata", root / "raw_data", root]
        patients = [p for parent in parents for p in sorted(parent.glob("sub-*")) if p.is_dir()]
        return [self._case(root, patient, roles) for patient in patients]

    def _case(self, root: Path, patient: Path, roles: Iterable[str]) -> Case:
        masks = root / "derivatives" / patient.name
        session = next((p.name for p in sorted(patient.glob("ses-*"))), "ses-0001")
        suffixes = {"lesion": "(?:lesion-)?msk", "brain": "brain-msk"}
        search, expected = {}, {}
        files = {folder: _files([folder]) for folder in (patient, masks)}
        for role in roles:
            suffix = suffixes.get(role, re.escape(role))
            name = re.compile(rf"{_patient(patient.name)}_{re.escape(session)}_{suffix}\.nii(\.gz)?", re.IGNORECASE)
            folder = masks if role in suffixes else patient
            search[role] = [(0, path) for path in files[folder] if name.fullmatch(path.name)]
            ending = {"lesion": "msk", "brain": "brain-msk"}.get(role, role)
            expected[role] = folder / session / f"{patient.name}_{session}_{ending}.nii.gz"
        return _pick(patient.name, search, expected)


class ISLES18(Layout):
    """ISLES'18 (no MRI): `TRAINING/case_1/SMIR.Brain.XX.O.<kind>.<id>/<same>.nii` with kind CT, CT_4DPWI, CT_CBF,
    CT_CBV, CT_MTT, CT_Tmax or OT (the lesion).

    `root` is the folder of the cases, or holds `TRAINING` or `TESTING`; cases are then called `training_case_1`, for
    both number from 1. For prediction, and for tasks whose files it has: there is no diffusion MRI.
    """

    _kinds: Mapping[str, str] = {
        "ctp": "CT_4DPWI",
        "ncct": "CT",
        "cbf": "CT_CBF",
        "cbv": "CT_CBV",
        "mtt": "CT_MTT",
        "tmax": "CT_Tmax",
        "lesion": "OT",
    }

    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        bases = [root, root / "TRAINING", root / "TESTING"]
        patients = [p for base in bases for p in base.glob("case_*") if p.is_dir()]
        return [self._case(p, roles) for p in sorted(patients, key=lambda p: (p.parent.name, _natural(p.name)))]

    def _case(self, patient: Path, roles: Iterable[str]) -> Case:
        part = patient.parent.name.lower()
        name = f"{part}_{patient.name}" if part in ("training", "testing") else patient.name
        search, expected, files = {}, {}, _files([patient])
        for role in roles:
            kind = self._kinds.get(role, role)
            pattern = re.compile(rf"SMIR\..*\.{re.escape(kind)}\.\d+\.nii(\.gz)?")
            search[role] = [(0, path) for path in files if pattern.fullmatch(path.name)]
            folder = f"SMIR.Brain.XX.O.{kind}.<id>"
            expected[role] = patient / folder / f"{folder}.nii"
        return _pick(name, search, expected)


class CaseFolders(Layout):
    """`<root>/<patient>/<role>.nii.gz` or `.nii`, the brain mask also as `mask`: the published 2D system's layout."""

    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        wanted = list(roles)
        folders = sorted(p for p in root.glob("*") if p.is_dir() and not p.name.startswith("."))
        found = [self._case(folder, wanted) for folder in folders]
        return [case for case in found if case.files or case.faults]

    def _case(self, folder: Path, roles: list[str]) -> Case:
        search = {
            role: [
                (rank, path)
                for rank, name in enumerate((role, "mask") if role == "brain" else (role,))
                for path in (folder / f"{name}{ending}" for ending in NIFTI)
                if path.is_file()
            ]
            for role in roles
        }
        return _pick(folder.name, search, {role: folder / f"{role}.nii.gz" for role in roles})


@dataclass(frozen=True)
class Datalist(Layout):
    """A MONAI or decathlon datalist: a JSON file with lists of cases, each an object of role → file.

    `root` is that file, or the folder that holds it as `file`. Paths are relative to the file. A case is called by its
    key `name`, `case`, `id` or `subject`, else by the folder of its first file when that folder is its own, else by
    that file.

    file: name of the JSON file in `root`.
    sections: which lists to read; by default all of them that hold cases.
    keys: the file's own words → roles, such as {"image": "ctp", "label": "lesion"}.
    """

    file: str = "dataset.json"
    sections: list[str] | None = None
    keys: dict[str, str] = field(default_factory=dict)

    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        path = root / self.file if root.is_dir() else root
        try:
            content = json.loads(path.read_text())
            lists = {k: v for k, v in content.items() if isinstance(v, list) and all(map(_is_case, v))}
        except (OSError, ValueError, AttributeError) as error:
            raise DataFault(f"{path} is not a datalist: {error!r}; expected a JSON object of lists of cases") from error
        missing = sorted(set(self.sections or []) - set(lists))
        if missing:
            raise DataFault(f"{path} has no list of cases called {', '.join(missing)}; found {', '.join(lists)}")
        files = {name: [self._files(path.parent, entry) for entry in entries] for name, entries in lists.items()}
        # Over all lists: what a case is called must not depend on which of them are read.
        firsts = [next(iter(found.values())) for section in files.values() for found in section if found]
        wanted = list(roles)
        return [
            self._case(path, entry, found, wanted, firsts)
            for name in self.sections or lists
            for entry, found in zip(lists[name], files[name], strict=True)
            if found
        ]

    def _files(self, folder: Path, entry: Any) -> dict[str, Path]:
        words = {"image": entry} if isinstance(entry, str) else entry
        paths = {self.keys.get(k, k): v for k, v in words.items() if isinstance(v, str) and v.endswith(NIFTI)}
        return {role: folder / value for role, value in paths.items()}

    def _case(self, path: Path, entry: Any, files: dict[str, Path], roles: list[str], firsts: Sequence[Path]) -> Case:
        first, stem = next(iter(files.values())), _stem(next(iter(files.values())))
        stated = [entry[k] for k in ("name", "case", "id", "subject") if isinstance(entry, dict) and k in entry]
        own = [p.parent for p in firsts].count(first.parent) == 1 and len({p.parent for p in files.values()}) == 1
        # A folder of one file alone is the patient's only where the file is not called after the patient.
        own = own and (len(files) > 1 or stem in files or [_stem(p) for p in firsts].count(stem) > 1)
        name = str(stated[0]) if stated else first.parent.name if own else stem
        gone = [f"{path} lists {p}, which does not exist" for r, p in files.items() if r in roles and not p.is_file()]
        expected = {role: files.get(role, path.parent / f"<{role} in {path.name}>") for role in roles}
        return Case(name, {r: p for r, p in files.items() if r in roles and p.is_file()}, expected, None, tuple(gone))


def _pick(
    name: str,
    search: Mapping[str, Sequence[tuple[int, Path]]],
    expected: dict[str, Path],
    frame_interval: float | None = None,
) -> Case:
    """Of each role's candidates (rank, file) the one of lowest rank; two of the same rank are a fault."""
    files, faults = {}, []
    for role, candidates in search.items():
        best = sorted(path for rank, path in candidates if rank == min(r for r, _ in candidates))
        if len(best) > 1:
            faults.append(f"{len(best)} files for {role}: {', '.join(map(str, best))}; remove or rename all but one")
        if best:
            files[role] = best[0]
    return Case(name, files, expected, frame_interval, tuple(faults))


def _patient(folder: str) -> str:
    """A pattern of what files of a patient's folder begin with: its name, or the same number in the other spelling."""
    number = re.fullmatch(r"sub-stroke(?:case)?0*(\d+)", folder)
    return rf"sub-stroke(?:case)?0*{number[1]}" if number else re.escape(folder)


def _files(folders: Iterable[Path]) -> list[Path]:
    return [p for folder in folders for p in sorted(folder.rglob("*")) if p.name.endswith(NIFTI) and p.is_file()]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _is_case(entry: Any) -> bool:
    return isinstance(entry, dict | str) and bool(entry)
