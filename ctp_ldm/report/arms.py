"""Runs as the arms of a comparison: seeds of one training are one arm."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import pandas as pd

from ctp_ldm.metrics import average_seeds, seed_deviation
from ctp_ldm.report.runs import ComparisonError, TestedRun, read_run
from ctp_ldm.spec import SpecMismatch

SEED = re.compile(r"-seed\d+$")


@dataclass(frozen=True)
class Arm:
    """One method: a run, or several that differ in their seed only.

    name: what tables call it.
    runs: in the given order.
    """

    name: str
    runs: tuple[TestedRun, ...]

    @cached_property
    def patients(self) -> pd.DataFrame:
        """A row for each patient, averaged over the seeds in which a value is defined."""
        return average_seeds([run.patients for run in self.runs])

    def chains(self, column: str) -> pd.DataFrame:
        """A column's values: a row for each patient, a column for each training.

        Trainings go by the seed in their folder's name, or by all of it.
        """
        names = [str(run.folder) for run in self.runs]
        seeds = [found[0] if (found := SEED.search(name)) else name for name in names]
        return pd.DataFrame({s: run.patients[column] for s, run in zip(seeds, self.runs, strict=True)})

    @property
    def makes_images(self) -> bool:
        """Whether there is a synthetic image; rivals find the lesion in the source without one."""
        return any(column.startswith("brain_mae_") for column in self.patients)

    @cached_property
    def seed_deviation(self) -> dict[str, float]:
        """Metric → standard deviation over seeds of its mean over patients; NaN for one seed."""
        return seed_deviation([run.patients for run in self.runs])


def group_runs(folders: Sequence[Path]) -> list[tuple[str, list[Path]]]:
    """Arms, as name and run folders: `X-seed1`, `X-seed2` in one folder are the arm X; any other run is its own arm.

    Raises:
        ComparisonError: a run is named twice.
    """
    resolved = [Path(folder).resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise ComparisonError(f"a run is named twice; expected different run folders, found {_paths(folders)}")
    stems = [folder.with_name(SEED.sub("", folder.name) or folder.name) for folder in resolved]
    groups: dict[Path, list[Path]] = {}
    for folder, resolved_folder, stem in zip(folders, resolved, stems, strict=True):
        groups.setdefault(stem if stems.count(stem) > 1 else resolved_folder, []).append(Path(folder))
    names = [key.name for key in groups]
    return [
        (key.name if names.count(key.name) == 1 else SEED.sub("", str(members[0])), members)
        for key, members in groups.items()
    ]


def read_arms(folders: Sequence[Path]) -> list[Arm]:
    """Read all runs.

    Raises:
        ComparisonError: of the first that was not tested.
    """
    return [Arm(name, tuple(read_run(folder) for folder in members)) for name, members in group_runs(folders)]


def require_comparable(arms: Sequence[Arm]) -> None:
    """Refuse to compare apples with oranges.

    Raises:
        ComparisonError: two runs were tested on other patients, with other target scalings, units or grids, or judged
            by other segmenters; or seeds of one arm have other metrics.
    """
    for arm in arms:
        columns = [set(run.patients.columns) for run in arm.runs]
        odd = sorted(set.union(*columns) - set.intersection(*columns))
        if odd:
            raise ComparisonError(
                f"not all seeds of {arm.name} have {', '.join(odd[:5])}; test all of them with the same segmenter"
            )
    runs = [(_label(arm, run), run) for arm in arms for run in arm.runs]
    for (first, one), (second, other) in combinations(runs, 2):
        if list(one.patients.index) != list(other.patients.index):
            odd = sorted(set(one.patients.index) ^ set(other.patients.index))
            raise ComparisonError(
                f"runs {first} and {second} were tested on different patients, such as {odd[:5]}; "
                "test both on the same split"
            )
        if one.spec and other.spec:
            # What a model sees may differ, that is what is compared; what it is judged by may not.
            remedy = "Errors of other scalings or grids cannot be compared: test both with the same data section"
            try:
                replace(one.spec, source=()).require_same(replace(other.spec, source=()), first, second, remedy)
            except SpecMismatch as error:
                raise ComparisonError(str(error)) from error
        if one.segmenter and other.segmenter and one.segmenter["sha256"] != other.segmenter["sha256"]:
            raise ComparisonError(
                f"runs {first} and {second} were judged by different segmenters ({one.segmenter['path']}, "
                f"{other.segmenter['path']}); test both with the same one"
            )


def choose_reference(arms: Sequence[Arm], name: str | None) -> Arm:
    """The arm that others are compared with: the first unless another is named.

    Raises:
        ComparisonError: there is none of that name.
    """
    if name is None:
        return arms[0]
    for arm in arms:
        if arm.name == name:
            return arm
    raise ComparisonError(f"--reference {name} is none of the runs: {', '.join(arm.name for arm in arms)}")


def _label(arm: Arm, run: TestedRun) -> str:
    return arm.name if len(arm.runs) == 1 else str(run.folder)


def _paths(folders: Sequence[Path]) -> list[str]:
    return [str(folder) for folder in folders]
