"""Prepare a whole data set: cases in parallel, faults of all of them in one run."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ctp_ldm.data.cases import Case, Layout, find_cases
from ctp_ldm.data.check import Fingerprint, describe_task, duplicates
from ctp_ldm.data.faults import CaseFault, DataFaults
from ctp_ldm.data.parallel import each_case
from ctp_ldm.data.preparation import Settings, prepare_case
from ctp_ldm.data.store import CaseRecord, SliceStore
from ctp_ldm.data.store_writer import StoreWriter
from ctp_ldm.data.task import Task
from ctp_ldm.data.timing import sidecar_of


def prepare(
    root: Path,
    store: Path,
    task: Task,
    layout: Layout,
    settings: Settings,
    workers: int = 2,
    skip_invalid: bool = False,
    fingerprint: Fingerprint | None = None,
    verify: bool = False,
) -> tuple[SliceStore, list[CaseFault]]:
    """Bring every case to the prepared grid and write the slice store.

    Cases that are in the store already, made from the same files with the same settings, are kept; so an interrupted
    run goes on where it was, and new patients are added.

    Args:
        root: the data set.
        store: folder of the store; made when missing.
        task: what the files hold.
        layout: where they are.
        settings: how they are prepared.
        workers: processes.
        skip_invalid: leave cases with faults out.
        fingerprint: what `check` found. Units that its good cases agree on are taken for those that do not tell theirs,
            its faults are told before any work, and files whose content has changed since are refused.
        verify: compare the arrays that are there with their checksums, and make damaged cases anew.

    Returns:
        The finished store, and the faults of the cases that were left out.

    Raises:
        DataFaults: every fault of every case, unless `skip_invalid`. The good cases stay written, the store is
            unfinished.
        StoreError: the folder holds something else, or another process writes to it.
        FileNotFoundError: no case found.
        ValueError: the fingerprint is of another task.
    """
    cases, faults = find_cases(layout, root, task.roles)
    if fingerprint is not None:
        if set(fingerprint.task) != set(describe_task(task)):
            raise ValueError(
                f"the fingerprint is of {', '.join(fingerprint.task)}, but the task reads "
                f"{', '.join(describe_task(task))}; check again with the same --config and --data options"
            )
        faults = list(dict.fromkeys([*faults, *_faults_known(cases, fingerprint)]))
        if faults and not skip_invalid:
            raise DataFaults(faults, "nothing was prepared; mend the files and check again, or give --skip-invalid")
        task = task.stating(fingerprint.units)
    refused = {fault.case for fault in faults}
    cases = [case for case in cases if case.name not in refused]
    with StoreWriter(store, settings.spec(task)) as writer:
        origins = {case.name: _origin(case, root, task, settings) for case in cases}
        there = {case.name: writer.finished(case.name, origins[case.name], verify) for case in cases}
        kept = {name: record for name, record in there.items() if record is not None}
        todo = [case for case in cases if case.name not in kept]
        made, more = each_case(todo, _Write(task, settings, writer, origins, fingerprint), workers, "prepare")
        faults += more
        records = {**kept, **made}
        same = duplicates({name: record.digests for name, record in records.items()})
        faults += same
        good = [record for name, record in sorted(records.items()) if name not in {fault.case for fault in same}]
        if faults and (not skip_invalid or not good):
            way = "" if skip_invalid else ", or leave these cases out with --skip-invalid"
            raise DataFaults(
                faults,
                f"{len(good)} good case(s) are kept in {store}, which is not finished; mend the files and run the same "
                f"command again{way}",
            )
        return writer.finish(good), faults


def _faults_known(cases: list[Case], fingerprint: Fingerprint) -> list[CaseFault]:
    faults = []
    for case in cases:
        if case.name not in fingerprint.cases:
            faults.append(CaseFault(case.name, "is not in the fingerprint; run ctp-ldm check again"))
        else:
            faults += [CaseFault(case.name, fault) for fault in fingerprint.cases[case.name].faults]
    return faults


def _origin(case: Case, root: Path, task: Task, settings: Settings) -> dict[str, Any]:
    """What a prepared case was made from, in paths below `root`: when this changes it is made anew."""
    files = {}
    for role, path in sorted(case.files.items()):
        states = [p.stat() for p in (path, sidecar_of(path)) if p.is_file()]
        files[role] = [os.path.relpath(path, root), *(n for s in states for n in (s.st_size, s.st_mtime_ns))]
    return {
        "files": files,
        "frame_interval": case.frame_interval,
        # More than the channels tell: the seconds between phases, for one.
        "task": describe_task(task),
        "settings": {**asdict(settings), "size": list(settings.size)},
    }


class _Write:
    """Prepares one case and writes it; picklable."""

    def __init__(
        self,
        task: Task,
        settings: Settings,
        writer: StoreWriter,
        origins: dict[str, dict[str, Any]],
        fingerprint: Fingerprint | None,
    ) -> None:
        self.task, self.settings, self.writer, self.origins = task, settings, writer, origins
        self.digests = {} if fingerprint is None else {n: f.digests for n, f in fingerprint.cases.items()}

    def __call__(self, case: Case) -> CaseRecord:
        prepared = prepare_case(case, self.task, self.settings)
        checked = self.digests.get(case.name, prepared.digests)
        changed = sorted(r for r in {*checked, *prepared.digests} if checked.get(r) != prepared.digests.get(r))
        if changed:
            message = f"{', '.join(changed)} changed since the fingerprint was made; run ctp-ldm check again"
            raise DataFaults([CaseFault(case.name, message)], "")
        return self.writer.write(case.name, prepared, self.origins[case.name])
