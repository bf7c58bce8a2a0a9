"""What a tested run left in its folder."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ctp_ldm.metrics.volumes import PatientVolumes, VolumesError
from ctp_ldm.paths import shown_path
from ctp_ldm.spec import DataSpec


class ComparisonError(ValueError):
    """Runs that cannot be compared: one was not tested, or on other patients, scalings or units."""


@dataclass(frozen=True)
class TestedRun:
    """A run that has been through `ctp-ldm test`.

    folder: of the run.
    patients: test/patients.csv, a row for each patient in order of their names.
    summary: test/summary.json; empty where that is missing or damaged.
    curves: what it finds at every cut-off, a file that may be missing; None where nothing is known of it.
    """

    __test__ = False  # not a test, whatever pytest thinks of its name

    folder: Path
    patients: pd.DataFrame
    summary: dict[str, Any]
    curves: Path | None = None

    @cached_property
    def spec(self) -> DataSpec | None:
        """What the images' numbers mean; None where the run does not tell."""
        try:
            return DataSpec.from_plain(self.summary["spec"])
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    @property
    def segmenter(self) -> dict[str, str] | None:
        """`path` and `sha256` of the frozen segmenter that found lesions on the images; None without one."""
        told = self.summary.get("segmenter")
        if not isinstance(told, dict):
            return None
        return {"path": shown_path(str(told.get("path", ""))), "sha256": str(told.get("sha256", ""))}

    def has_volumes(self, case: str) -> bool:
        """Whether there is a file of this patient; it may be damaged."""
        return self._path(case).is_file()

    def volumes(self, case: str) -> PatientVolumes:
        """Of one patient.

        Raises:
            VolumesError: missing, damaged, or of another patient.
        """
        path = self._path(case)
        if not path.is_file():
            raise VolumesError(f"{path} is missing; run ctp-ldm test again to write it")
        volumes = PatientVolumes.load(path)
        if volumes.case != case:
            raise VolumesError(f"{path} holds patient {volumes.case!r}, expected {case!r}; run ctp-ldm test again")
        return volumes

    def _path(self, case: str) -> Path:
        return self.folder / "test" / "volumes" / f"{case}.npz"


def read_run(folder: Path) -> TestedRun:
    """Read a run's test results.

    Raises:
        ComparisonError: it was not tested, or its table cannot be used.
    """
    path = folder / "test" / "patients.csv"
    if not path.is_file():
        raise ComparisonError(f"{path} is missing: run ctp-ldm test for {folder} first")
    try:
        table = pd.read_csv(path, index_col="case", dtype={"case": str}).sort_index()
        table = table.astype(float)
    except (ValueError, KeyError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise ComparisonError(
            f"{path} is not a table of numbers with a column case ({error}); run ctp-ldm test for {folder} again"
        ) from error
    if table.empty or table.index.hasnans:
        raise ComparisonError(f"{path} names no patient, or not all of them; run ctp-ldm test for {folder} again")
    if table.index.has_duplicates:
        twice = sorted(set(table.index[table.index.duplicated()]))
        raise ComparisonError(f"{path} has patients twice, such as {twice[:5]}; run ctp-ldm test for {folder} again")
    return TestedRun(folder, table, _summary(folder / "test" / "summary.json"), folder / "test" / "curves.csv")


def _summary(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
