"""A case is one patient's files; layouts find the cases of a folder."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ctp_ldm.data.faults import CaseFault

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Case:
    """One patient.

    name: what the patient is called in stores, tables and file names.
    files: role ("ctp", "dwi", "adc", "lesion", "brain" or a task's own) → existing file.
    expected: role → where the layout would look for it, for messages about what is missing.
    """

    name: str
    files: dict[str, Path]
    expected: dict[str, Path] = field(default_factory=dict)


class Layout(ABC):
    """Knows where the files of a data set lie. A new layout is a subclass with one method."""

    @abstractmethod
    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        """Every case below `root`, with those files of `roles` that exist."""


class ISLES24(Layout):
    """`derivatives/sub-*/ses-01/…_space-ncct_ctp.nii.gz` and `ses-02/…_space-ncct_{dwi,adc,lesion-msk}.nii.gz`.

    `root` is the folder that holds `derivatives`, or one that holds it under `train`. A file `ses-01/
    …_space-ncct_brain-msk.nii.gz` is taken as the brain mask when it is there.
    """

    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        folders = [p for base in (root, root / "train") for p in sorted((base / "derivatives").glob("sub-*"))]
        return [_existing(p.name, {role: self._path(p, role) for role in roles}) for p in folders if p.is_dir()]

    def _path(self, patient: Path, role: str) -> Path:
        session = "ses-02" if role in ("dwi", "adc", "lesion") else "ses-01"
        suffix = {"lesion": "lesion-msk", "brain": "brain-msk"}.get(role, role)
        return patient / session / f"{patient.name}_{session}_space-ncct_{suffix}.nii.gz"


class CaseFolders(Layout):
    """`<root>/<patient>/<role>.nii.gz`, the brain mask also as `mask.nii.gz` (the published 2D system's convention)."""

    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        wanted = list(roles)
        found = []
        for folder in sorted(p for p in root.glob("*") if p.is_dir() and not p.name.startswith(".")):
            paths = {role: folder / f"{role}.nii.gz" for role in wanted}
            if "brain" in paths and not paths["brain"].is_file() and (folder / "mask.nii.gz").is_file():
                paths["brain"] = folder / "mask.nii.gz"
            case = _existing(folder.name, paths)
            if case.files:
                found.append(case)
        return found


def _existing(name: str, paths: dict[str, Path]) -> Case:
    return Case(name, {role: path for role, path in paths.items() if path.is_file()}, paths)


def find_cases(layout: Layout, root: Path, roles: Iterable[str]) -> tuple[list[Case], list[CaseFault]]:
    """The cases of a folder, and what is wrong with the folder as a whole.

    Returns:
        The cases that can be looked at (each name once), and faults: a name that is unfit for a file, or that comes
        twice.

    Raises:
        FileNotFoundError: the folder is missing or holds no case of this layout.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; expected the root of the data set")
    found = layout.cases(root, roles)
    if not found:
        raise FileNotFoundError(
            f"no case found in {root}; layout {type(layout).__name__} expects: {(type(layout).__doc__ or '').strip()}"
        )
    faults: list[CaseFault] = []
    unique: dict[str, Case] = {}
    for case in found:
        if not _NAME.fullmatch(case.name):
            faults.append(CaseFault(case.name, "name unfit for a file; use letters, digits, '.', '_' and '-'"))
        elif case.name in unique:
            there = sorted({str(p.parent) for c in (unique[case.name], case) for p in c.expected.values()})
            faults.append(CaseFault(case.name, f"found twice, in {', '.join(there)}; rename or remove one"))
        else:
            unique[case.name] = case
    return list(unique.values()), faults
