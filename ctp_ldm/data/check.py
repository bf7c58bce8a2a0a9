"""Look at every case of a data set: what is wrong, what is odd, and what it is like as a whole."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from ctp_ldm.data.cases import Case, Layout, find_cases
from ctp_ldm.data.faults import CaseFault, DataFaults
from ctp_ldm.data.loading import load_case
from ctp_ldm.data.parallel import each_case
from ctp_ldm.data.preparation import Settings, place
from ctp_ldm.data.resampled import resampling_of
from ctp_ldm.data.task import MASKS, Task

FORMAT, VERSION = "ctp-ldm fingerprint", 1


@dataclass(frozen=True)
class Findings:
    """What `check` found out about one case.

    facts: groups ("grid", "brain", "lesion", "mirror", "resampling", and the roles) of plain values.
    digests: role → digest of a file's content.
    faults: why the case cannot be used.
    remarks: what is worth a look.
    undecided: roles whose file does not tell its unit.
    """

    name: str
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)

    def flat(self) -> dict[str, Any]:
        """One level of facts: "ctp.arrival" and so on; lists are spread over "grid.spacing.0" …"""
        items = {f"{group}.{key}": value for group, facts in self.facts.items() for key, value in facts.items()}
        lists = {f"{k}.{i}": v for k, vs in items.items() if isinstance(vs, list) for i, v in enumerate(vs)}
        return {k: v for k, v in items.items() if not isinstance(v, list)} | lists


@dataclass(frozen=True)
class Fingerprint:
    """A checked data set: every case's findings, and the units that all of them agree on.

    cases: name → findings.
    task: role → what its files were taken for.
    """

    cases: dict[str, Findings]
    task: dict[str, str]

    @property
    def faults(self) -> list[CaseFault]:
        return [CaseFault(name, fault) for name, found in self.cases.items() for fault in found.faults]

    @property
    def units(self) -> dict[str, str]:
        """Role → the unit of its files, where the good cases agree on one."""
        found: dict[str, set[str]] = {}
        for findings in self.cases.values():
            for role, facts in findings.facts.items():
                if "unit" in facts and not findings.faults:
                    found.setdefault(role, set()).add(facts["unit"])
        return {role: next(iter(units)) for role, units in sorted(found.items()) if len(units) == 1}

    def summary(self) -> dict[str, Any]:
        """Each fact over the cases that have it: how many, range and quartiles of numbers, counts of words."""
        columns: dict[str, list[Any]] = {}
        for findings in self.cases.values():
            for key, value in findings.flat().items():
                if value is not None:
                    columns.setdefault(key, []).append(value)
        return {key: _summarise(values) for key, values in columns.items()}

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "task": self.task,
            "units": self.units,
            "summary": self.summary(),
            "cases": [asdict(findings) for findings in self.cases.values()],
        }
        partial_ = path.with_name(f".{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_.write_text(json.dumps(content, indent=1, ensure_ascii=False))
        partial_.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            ValueError: the file is missing or something else.
        """
        try:
            content = json.loads(path.read_text())
            if (content["format"], content["version"]) != (FORMAT, VERSION):
                raise ValueError(f"{content['format']} version {content['version']}")
            return cls({c["name"]: Findings(**c) for c in content["cases"]}, content["task"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a fingerprint ({error!r}); make it with: ctp-ldm check DATA --json {path}"
            ) from error


def check(root: Path, task: Task, layout: Layout, settings: Settings, workers: int = 2) -> Fingerprint:
    """Read and look at every case as `prepare` would, and write nothing.

    A case with a file that does not tell its unit is looked at again with the unit that the good cases agree on.

    Raises:
        FileNotFoundError: no case found.
    """
    cases, faults = find_cases(layout, root, task.roles)
    results, _ = each_case(cases, partial(inspect_case, task=task, settings=settings), workers, "check")
    agreed = Fingerprint(results, {}).units
    unsure = [case for case in cases if set(results[case.name].undecided) & set(agreed)]
    if unsure:
        again = partial(inspect_case, task=task.stating(agreed), settings=settings)
        looked, _ = each_case(unsure, again, workers, "check again")
        results |= {name: found for name, found in looked.items() if not found.faults}
    faulty = {fault.case for fault in faults} | {name for name, found in results.items() if found.faults}
    faults += duplicates({name: found.digests for name, found in results.items()}, faulty)
    for fault in faults:
        results.setdefault(fault.case, Findings(fault.case)).faults.append(fault.message)
    return Fingerprint(dict(sorted(results.items())), describe_task(task))


def describe_task(task: Task) -> dict[str, str]:
    """Role → all that decides what its files become."""
    return {role: repr(quantity) for role, quantity in task.quantities.items()}


def inspect_case(case: Case, task: Task, settings: Settings) -> Findings:
    """Everything there is to say about one case."""
    loaded = load_case(case, task, settings.frame_interval, settings.sources_only)
    geometry, outside = place(loaded, settings)
    facts, remarks = loaded.facts, loaded.remarks
    if geometry is not None:
        seen = resampling_of(loaded, geometry)
        facts, remarks = {**facts, "resampling": seen.facts}, remarks + seen.remarks
    return Findings(case.name, facts, loaded.digests, loaded.faults + outside, remarks, loaded.undecided)


def duplicates(digests: Mapping[str, Mapping[str, str]], faulty: Collection[str] = ()) -> list[CaseFault]:
    """Cases that hold an image of an earlier case: one patient in two parts of a split would leak.

    Args:
        digests: case → role → digest.
        faulty: cases that cannot be used anyway; a sound copy of one stays.
    """
    first: dict[tuple[str, str], str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for name in sorted(digests, key=lambda name: (name in faulty, name)):
        for role, digest in digests[name].items():
            earlier = first.setdefault((role, digest), name)
            # Two patients may well have the same mask: none.
            if earlier != name and role not in MASKS:
                shared.setdefault((name, earlier), []).append(role)
    return [
        CaseFault(
            name,
            f"its {', '.join(roles)} {'has' if len(roles) == 1 else 'have'} the content of {earlier}'s: one "
            "patient under two names",
        )
        for (name, earlier), roles in shared.items()
    ]


def require_good(fingerprint: Fingerprint) -> None:
    """Raise what is wrong.

    Raises:
        DataFaults: every fault of every case.
    """
    if fingerprint.faults:
        good = sum(not findings.faults for findings in fingerprint.cases.values())
        raise DataFaults(fingerprint.faults, f"{good} of {len(fingerprint.cases)} cases are good")


def _summarise(values: list[Any]) -> dict[str, Any]:
    if any(isinstance(value, str | bool) for value in values):
        return {"n": len(values), "counts": dict(sorted(Counter(map(str, values)).items()))}
    names = ("min", "q1", "median", "q3", "max")
    quartiles = [round(float(q), 6) for q in np.percentile(values, [0, 25, 50, 75, 100])]
    return {"n": len(values), **dict(zip(names, quartiles, strict=True))}
