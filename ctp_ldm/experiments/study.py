"""Patients, stores and parts of a phase: from nothing to one JSON for each part."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from ctp_ldm.configuration import find_configs
from ctp_ldm.data import SliceStore
from ctp_ldm.experiments.parts import Place, Step, commands, needs
from ctp_ldm.experiments.protocol import Phase, Protocol, Size
from ctp_ldm.experiments.results import begin, is_begun, is_done, read_arm, write_result
from ctp_ldm.experiments.running import PartFailed, Processes, run_all, stopped_by_signals
from ctp_ldm.phantom.files import VERSION
from ctp_ldm.report.arms import Arm
from ctp_ldm.runs import write_text

Made = tuple[str, int]
"""A part's name and seed."""
Task = tuple[str, int, Step]


@dataclass(frozen=True)
class Study:
    """The parts of a protocol at one size, on one set of patients.

    root: folder of everything; runs resume where they were when the same command is given again.
    phase: "development" for decisions, "final" for the table.
    jobs: parts side by side; None for the size's own number.
    seeds: make the first of them only; None for all.
    """

    protocol: Protocol
    size: str
    phase: Phase
    root: Path
    jobs: int | None = None
    seeds: int | None = None

    @property
    def place(self) -> Place:
        """Where its files lie."""
        return Place(self.root)

    @property
    def grid(self) -> Size:
        """How large it is."""
        return self.protocol.sizes[self.size]

    @cached_property
    def processes(self) -> Processes:
        """Each part gets its share of the cores."""
        return Processes(max(1, (os.cpu_count() or 1) // self._jobs))

    @cached_property
    def _seconds(self) -> dict[Task, float]:
        """How long what was run took; of what an interrupted study has run before, nothing is known."""
        return {}

    @property
    def _jobs(self) -> int:
        return self.jobs or self.grid.jobs

    def make(self, parts: Iterable[str]) -> list[Made]:
        """Fit, validate and test parts and what they start from; those that are there are left as they are.

        Returns:
            All of them, in the order of the protocol.

        Raises:
            PartFailed: some failed; the others are there.
            ResultError: a part is there, or was begun, with other settings.
        """
        plan = self.plan(parts)
        missing = [made for made in plan if not is_done(self.place.result(*made), self._identity(*made))]
        for made in missing:
            is_begun(self.place.run(*made), self._identity(*made))
        print(f"{len(plan)} parts, {len(plan) - len(missing)} of them there already: {self.root}", flush=True)
        if not missing:
            return plan
        with stopped_by_signals():
            self._prepare()
            run_all(self._steps(missing), self._work, self._jobs, self.processes.leave, self.phase)
        return plan

    def plan(self, parts: Iterable[str]) -> list[Made]:
        """Parts with their seeds and all that they need, first seeds first."""
        wanted: set[Made] = set()
        seeds = {name: range(self.protocol.parts[name].seeds)[: self.seeds] for name in parts}
        open_ = [(name, seed) for name, some in seeds.items() for seed in some]
        while open_:
            made = open_.pop()
            if made not in wanted:
                wanted.add(made)
                open_ += [other for before in needs(self.protocol, *made).values() for other in before]
        places = {name: i for i, name in enumerate(self.protocol.parts)}
        return sorted(wanted, key=lambda made: (made[1], places[made[0]]))

    def arms(self) -> list[Arm]:
        """All parts that are there, in the order of the protocol; seeds that are missing are left out."""
        found = []
        for name, part in self.protocol.parts.items():
            paths = [self.place.result(name, seed) for seed in range(part.seeds)]
            there = [path for path in paths if path.is_file()]
            if there:
                found.append(read_arm(name, there))
        return found

    def _identity(self, name: str, seed: int) -> dict[str, Any]:
        """What has to be the same for a part to be the same, and so all that it starts from."""
        lines = commands(self.protocol, self.size, self.place, name, seed)
        before = {other for others in needs(self.protocol, name, seed).values() for other in others}
        return {
            "part": name,
            "seed": seed,
            "size": self.size,
            "phase": self.phase,
            "phantom": self._patients(),
            "commands": [self._portable(line) for line in lines.values()],
            "configs": _digests(word for line in lines.values() for word in line),
            "needs": {f"{other}-seed{n}": self._digest(other, n) for other, n in sorted(before)},
        }

    def _digest(self, name: str, seed: int) -> str:
        if (name, seed) not in self._known:
            content = json.dumps(self._identity(name, seed), sort_keys=True)
            self._known[name, seed] = hashlib.sha256(content.encode()).hexdigest()[:12]
        return self._known[name, seed]

    @cached_property
    def _known(self) -> dict[Made, str]:
        return {}

    def _patients(self) -> dict[str, Any]:
        patients = self.grid.final if self.phase == "final" else self.grid.development
        return {"preset": self.grid.preset, **asdict(patients), "version": VERSION}

    def _portable(self, line: Sequence[str]) -> list[str]:
        """Without the folder that somebody chose."""
        return [word.replace(str(self.root), "OUT") for word in line]

    def _steps(self, missing: Sequence[Made]) -> dict[Task, list[Task]]:
        """What has to be run, and what before it: a test need not hold up the fits that start from what it tests."""
        steps: dict[Task, list[Task]] = {}
        for made in missing:
            before = needs(self.protocol, *made)
            for step, others in before.items():
                steps[*made, step] = [(*other, "fit") for other in others if other in missing]
            for first, second in pairwise(before):
                steps[*made, second].append((*made, first))
        return steps

    def _work(self, task: Task) -> None:
        name, seed, step = task
        identity, run = self._identity(name, seed), self.place.run(name, seed)
        resumed = is_begun(run, identity)
        if not resumed:
            begin(run, identity)
        start = time.monotonic()
        line = commands(self.protocol, self.size, self.place, name, seed)[step]
        self.processes.run(line, self.root / "logs" / f"{name}-seed{seed}.log")
        if step != "fit" or not resumed:
            self._seconds[task] = time.monotonic() - start
        if step == "test":
            seconds = {key: took for key in get_args(Step) if (took := self._seconds.get((name, seed, key)))}
            write_result(self.place.result(name, seed), run, self.protocol.columns, seconds)

    def _prepare(self) -> None:
        """Patients and stores; whoever cannot be prepared for one store is in no part of the split.

        Raises:
            ResultError: those that are there are others.
        """
        lines = self._data_commands()
        identity = {
            "phantom": self._patients(),
            "commands": [self._portable(line) for line in lines.values()],
            "configs": _digests(word for line in lines.values() for word in line),
        }
        if is_begun(self.root, identity) and self.place.split.is_file():
            return
        begin(self.root, identity)
        for name, line in lines.items():
            log = self.root / "logs" / f"{name}.log"
            print(f"{name}: ctp-ldm {' '.join(line)}\n  output: {log}", flush=True)
            try:
                self.processes.run([*line, f"--workers={os.cpu_count() or 1}"], log)
            except BaseException:
                self.processes.leave()
                raise
        usable = set.intersection(*(set(SliceStore(self.place.store(n)).records) for n in self.protocol.stores))
        parts = json.loads((self.place.tree / "split.json").read_text())
        kept = {part: [name for name in names if name in usable] for part, names in parts.items()}
        if empty := [part for part, names in kept.items() if not names]:
            logs = self.root / "logs"
            raise PartFailed(f"no patient that can be prepared is left for {' and '.join(empty)}; see {logs}")
        write_text(self.place.split, json.dumps(kept, indent=1))

    def _data_commands(self) -> dict[str, list[str]]:
        patients = self._patients()
        grid = [f"--data.spacing={self.grid.spacing}", f"--data.size={json.dumps(list(self.grid.size))}"]
        options = [
            f"--preset={patients['preset']}",
            f"--seed={patients['seed']}",
            f"--parts={json.dumps(patients['parts'])}",
        ]
        lines = {"phantom": ["phantom", str(self.place.tree), *options]}
        for name, tasks in self.protocol.stores.items():
            configs = [f"--config={config}" for config in ("diffusion.yaml", *tasks)]
            source, store = str(self.place.tree), str(self.place.store(name))
            lines[f"store-{name}"] = ["prepare", source, store, *configs, *grid, "--skip-invalid"]
        return lines


def _digests(words: Iterable[str]) -> dict[str, str]:
    """Config → what its text is, of the words of a command line."""
    names = sorted({word.removeprefix("--config=") for word in words if word.startswith("--config=")})
    found = find_configs([f"--config={name}" for name in names])
    paths = [Path(word.removeprefix("--config=")) for word in found]
    return {n: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for n, path in zip(names, paths, strict=True)}
