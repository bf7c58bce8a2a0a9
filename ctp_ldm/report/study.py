"""All that a report knows of the runs it was given."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from ctp_ldm.display.sources import shown_sources
from ctp_ldm.display.windows import Tone, tone
from ctp_ldm.metrics import Finds, Interval, Metric, judgement
from ctp_ldm.metrics.catalogue import CHANNELS
from ctp_ldm.paths import without_place
from ctp_ldm.report import wording
from ctp_ldm.report.arms import Arm, choose_reference, group_runs, require_comparable
from ctp_ldm.report.differences import LEVEL, compare_arms, primary_tests
from ctp_ldm.report.runs import ComparisonError, TestedRun, read_run
from ctp_ldm.spec import Channel, DataSpec

NEED_SEGMENTER = ("lesion_dice", "false_ml")
OF_SAMPLES = "uncertainty_"
"""Columns of runs that drew several samples."""


@dataclass(frozen=True)
class Study:
    """Arms on the same patients, and what has to be said about them.

    arms: in the given order.
    reference: the one that others are compared with.
    notices: what is missing, in words for the page.
    """

    arms: list[Arm]
    reference: Arm
    notices: list[str] = field(default_factory=list)

    @cached_property
    def table(self) -> pd.DataFrame:
        """`compare_arms`, by (metric, run)."""
        return compare_arms(self.arms, self.reference).set_index(["metric", "run"], drop=False)

    @cached_property
    def tests(self) -> dict[tuple[str, str], float]:
        """(arm, primary metric) → p-value adjusted for all primary comparisons."""
        primary = [column for column in self.metrics if self.metric(column).primary]
        return primary_tests(self.arms, self.reference, primary)

    @property
    def others(self) -> list[Arm]:
        """Arms that are compared with the reference."""
        return [arm for arm in self.arms if arm is not self.reference]

    @property
    def method(self) -> Arm:
        """Whom it is about: the last arm that makes images and is compared with the reference, else the last one.

        Methods come after what they are compared with, and rivals that make no images after them.
        """
        others = self.others or self.arms
        return next((arm for arm in reversed(others) if arm.makes_images), others[-1])

    @property
    def cases(self) -> list[str]:
        """Patients in order of their names."""
        return [str(case) for case in self.reference.patients.index]

    @cached_property
    def metrics(self) -> list[str]:
        """Columns that judge or describe what models made, those that decide first."""
        columns = list(dict.fromkeys(self.table["metric"]))
        return sorted(columns, key=lambda c: (not self.metric(c).primary, self.metric(c).better is None))

    @cached_property
    def units(self) -> dict[str, str]:
        """Target channel → unit, where a run tells."""
        return {channel.name: channel.scaling.unit for channel in self._specs[0].target} if self._specs else {}

    @property
    def _specs(self) -> list[DataSpec]:
        return [run.spec for arm in self.arms for run in arm.runs if run.spec]

    @cached_property
    def channels(self) -> dict[str, Channel]:
        """Name → target, or source channel to look at, of all runs that tell."""
        channels = [c for spec in self._specs for c in (*shown_sources(spec), *spec.target)]
        return {channel.name: channel for channel in channels}

    def tone(self, name: str, unit: str, inside: np.ndarray) -> Tone:
        """Windows of a channel.

        Args:
            name: of a target, or of a source channel to look at.
            unit: where no run tells.
            inside: values of the real images in the brain; they decide where neither unit nor scaling does.
        """
        channel = self.channels.get(name)
        return tone(channel.scaling.unit, channel.scaling, inside) if channel else tone(unit, None, inside)

    @cached_property
    def targets(self) -> list[str]:
        """Names of the target channels."""
        columns = dict.fromkeys(column for arm in self.arms for column in arm.patients)
        return [column.removeprefix("brain_mae_") for column in columns if column.startswith("brain_mae_")]

    def title(self, target: str) -> str:
        """What a target channel is called."""
        return CHANNELS[target][0] if target in CHANNELS else target

    def metric(self, column: str) -> Metric:
        """What a column is called, measured in and better at."""
        return wording.metric(column, self.units)

    def mean(self, column: str, arm: Arm) -> Interval | None:
        """Over patients; None where the arm lacks the column."""
        return self._interval(column, arm, ("mean", "low", "high", "patients"))

    def difference(self, column: str, arm: Arm) -> Interval | None:
        """Paired, from the reference; None where there is nothing to compare."""
        found = self._interval(column, arm, ("difference", "difference_low", "difference_high", "pairs"))
        return None if found is None or math.isnan(found.mean) else found

    def left_out(self, column: str, arm: Arm) -> int:
        """Patients whom `difference` leaves out, because the arm or the reference alone has a value."""
        return int(self.table.loc[(column, arm.name), "left_out"])

    def verdict(self, column: str, arm: Arm) -> str:
        """`judgement` of the difference; where that was tested, the adjusted p has to be at most `LEVEL` too."""
        change = self.difference(column, arm)
        if change is None or self.tests.get((arm.name, column), 0.0) > LEVEL:
            return ""
        return judgement(self.metric(column), change, self.finds(arm), self.left_out(column, arm))

    def finds(self, arm: Arm) -> Finds:
        """Whether an arm finds less of the lesions than the reference."""
        return cast(Finds, self.table.loc[self.table["run"] == arm.name, "finds"].iloc[0])

    def _interval(self, column: str, arm: Arm, names: tuple[str, str, str, str]) -> Interval | None:
        if (column, arm.name) not in self.table.index:
            return None
        row = self.table.loc[(column, arm.name)]
        mean, low, high, patients = (float(row[name]) for name in names)
        return Interval(mean, low, high, int(patients))

    @cached_property
    def volumes_ml(self) -> "pd.Series[float]":
        """Patient → volume of the reference lesion; NaN where no run tells."""
        for column in ("reference_ml", "lesion_ml"):
            for arm in self.arms:
                if column in arm.patients:
                    return arm.patients[column]
        return pd.Series(math.nan, index=self.reference.patients.index)


def read_study(folders: Sequence[Path], reference: str | None = None) -> Study:
    """Read runs; those that were not tested are left out and told.

    Args:
        folders: run folders, the reference first.
        reference: name of another arm to compare with.

    Raises:
        ComparisonError: no run can be read, or those that can are not comparable.
    """
    arms, notices = [], []
    for name, members in group_runs(folders):
        runs: list[TestedRun] = []
        for folder in members:
            try:
                runs.append(read_run(folder))
            except ComparisonError as error:
                notices.append(f"A run is left out: {without_place(str(error), folder)}")
        if runs:
            arms.append(Arm(name, tuple(runs)))
    if not arms:
        raise ComparisonError("\n".join(["none of the runs can be reported:", *notices]))
    require_comparable(arms)
    chosen = choose_reference(arms, reference)
    if notices and len(arms) > 1:
        notices.append(f"What is left is compared with {chosen.name}.")
    return Study(arms, chosen, [*notices, *_remarks(arms)])


def _remarks(arms: Sequence[Arm]) -> list[str]:
    """What these tables cannot show, and how to mend it."""
    table = arms[0].patients
    remarks = []
    if len(table) == 1:
        remarks.append("There is one patient only: nothing has an interval, and nothing can be concluded.")
    lesions = next((table[c] for c in ("reference_ml", "lesion_ml") if c in table), None)
    if lesions is not None and not (lesions > 0).any():
        remarks.append(
            "No patient has a lesion: errors in the lesion, detection and agreement of volumes are empty. What is "
            "found here is false lesion."
        )
    compared = sum(len(arm.runs) for arm in arms) > 1
    for arm in arms:
        missing = [column for column in NEED_SEGMENTER if column not in arm.patients]
        if missing:
            remarks.append(
                f"{arm.name}: Dice and false lesion volume need a segmenter that took no part in training. Give one to "
                "ctp-ldm test (--segmenter CHECKPOINT) and test the run again."
            )
        if compared and any(run.spec is None for run in arm.runs):
            remarks.append(
                f"{arm.name} does not tell its scalings and units, so that nobody has checked that it may be compared; "
                "test it again."
            )
    every = {column for arm in arms for column in arm.patients}
    for arm in arms:
        lacking = sorted(c for c in every - set(arm.patients) if not c.startswith(OF_SAMPLES))
        if not arm.makes_images:
            remarks.append(f"{arm.name} makes no images: it finds lesions in its source.")
        elif lacking and not any(column not in arm.patients for column in NEED_SEGMENTER):
            remarks.append(f"{arm.name} was not measured by {', '.join(lacking)}, as others were; test it again.")
    return remarks
