"""A case is one patient's files; a layout finds the cases of a data set."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ctp_ldm.data.faults import CaseFault

NIFTI = (".nii.gz", ".nii")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_case_name(name: object) -> bool:
    """Whether a case can be called so: letters, digits, ".", "_" and "-", and the first of them a letter or digit."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Case:
    """One patient.

    name: what the patient is called in stores, tables and file names.
    files: role ("ctp", "dwi", "adc", "lesion", "brain" or a task's own) → existing file.
    expected: role → where the layout would look for it, for messages about what is missing.
    frame_interval: seconds between the frames of a series that does not say, as the data set's authors document it.
    faults: what the layout found wrong, such as two files for one role.
    """

    name: str
    files: dict[str, Path]
    expected: dict[str, Path] = field(default_factory=dict)
    frame_interval: float | None = None
    faults: tuple[str, ...] = ()


class Layout(ABC):
    """Knows where the files of a data set lie. A new layout is a subclass with one method."""

    @abstractmethod
    def cases(self, root: Path, roles: Iterable[str]) -> list[Case]:
        """Every case below `root`, with those files of `roles` that exist."""


def find_cases(layout: Layout, root: Path, roles: Iterable[str]) -> tuple[list[Case], list[CaseFault]]:
    """The cases of a data set, and what is wrong with it as a whole.

    Returns:
        The cases that can be looked at (each name once), and faults: a name that is unfit for a file, or that comes
        twice, and what the layout itself found wrong with a case.

    Raises:
        FileNotFoundError: `root` is missing or holds no case of this layout.
    """
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist; expected the root of the data set")
    found = layout.cases(root, list(roles))
    if not found:
        raise FileNotFoundError(
            f"no case found in {root}; layout {type(layout).__name__} expects: {(type(layout).__doc__ or '').strip()}"
        )
    faults: list[CaseFault] = []
    unique: dict[str, Case] = {}
    for case in found:
        if not is_case_name(case.name):
            faults.append(CaseFault(case.name, "name unfit for a file; use letters, digits, '.', '_' and '-'"))
        elif case.name in unique:
            there = sorted({str(p.parent) for c in (unique[case.name], case) for p in c.expected.values()})
            faults.append(CaseFault(case.name, f"found twice, in {', '.join(there)}; rename or remove one"))
        else:
            unique[case.name] = case
            faults += [CaseFault(case.name, fault) for fault in case.faults]
    return list(unique.values()), faults
