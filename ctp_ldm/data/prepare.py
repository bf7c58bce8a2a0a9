"""Check or prepare a whole data set: cases in parallel, faults of all of them in one run."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ctp_ldm.data.cases import Case, Layout, find_cases
from ctp_ldm.data.faults import CaseFault, DataFaults
from ctp_ldm.data.preparation import Settings, prepare_case
from ctp_ldm.data.store import CaseRecord, SliceStore, StoreWriter
from ctp_ldm.data.task import Task
from ctp_ldm.data.volumes import sidecar_of


def check(root: Path, task: Task, layout: Layout, settings: Settings, workers: int = 2) -> list[str]:
    """Read and check every case as `prepare` would, and write nothing.

    Returns:
        The names of the cases, all without fault.

    Raises:
        DataFaults: every fault of every case.
        FileNotFoundError: no case found.
    """
    cases, faults = find_cases(layout, root, task.roles)
    done, more = _each(cases, _Check(task, settings), workers, "check")
    if faults + more:
        raise DataFaults(
            faults + more, f"{len(done)} of {len(done) + len({f.case for f in faults + more})} cases are good"
        )
    return sorted(done)


def prepare(
    root: Path,
    store: Path,
    task: Task,
    layout: Layout,
    settings: Settings,
    workers: int = 2,
    skip_invalid: bool = False,
) -> tuple[SliceStore, list[CaseFault]]:
    """Bring every case to the prepared grid and write the slice store.

    Cases that are in the store already, made from the same files with the same settings, are kept; so an interrupted
    run goes on where it was, and new patients are added.

    Returns:
        The finished store, and the faults of the cases that were left out.

    Raises:
        DataFaults: every fault of every case, unless `skip_invalid`. The good cases stay written, the store is
            unfinished.
        StoreError: the folder holds something else.
        FileNotFoundError: no case found.
    """
    cases, faults = find_cases(layout, root, task.roles)
    writer = StoreWriter(store, task.spec(settings.spacing, settings.size))
    origins = {case.name: _origin(case, task, settings) for case in cases}
    there = {case.name: writer.finished(case.name, origins[case.name]) for case in cases}
    kept = {name: record for name, record in there.items() if record is not None}
    todo = [case for case in cases if case.name not in kept]
    made, more = _each(todo, _Write(task, settings, writer, origins), workers, "prepare")
    faults += more
    records = [record for _, record in sorted({**kept, **made}.items())]
    if faults and (not skip_invalid or not records):
        raise DataFaults(
            faults,
            f"{len(records)} good case(s) are kept in {store}, which is not finished; mend the files and run the same "
            "command again, or leave these cases out with --skip-invalid",
        )
    return writer.finish(records), faults


def _origin(case: Case, task: Task, settings: Settings) -> dict[str, Any]:
    """What a prepared case was made from: when this changes it is made anew."""
    files = {}
    for role, path in sorted(case.files.items()):
        states = [p.stat() for p in (path, sidecar_of(path)) if p.is_file()]
        files[role] = [str(path.resolve()), *(n for s in states for n in (s.st_size, s.st_mtime_ns))]
    return {
        "files": files,
        # More than the channels tell: the seconds between phases, for one.
        "task": {role: repr(quantity) for role, quantity in {**task.sources, **task.targets}.items()},
        "settings": {**asdict(settings), "size": list(settings.size)},
    }


class _Check:
    def __init__(self, task: Task, settings: Settings) -> None:
        self.task, self.settings = task, settings

    def __call__(self, case: Case) -> None:
        prepare_case(case, self.task, self.settings)


class _Write:
    def __init__(self, task: Task, settings: Settings, writer: StoreWriter, origins: dict[str, dict[str, Any]]) -> None:
        self.task, self.settings, self.writer, self.origins = task, settings, writer, origins

    def __call__(self, case: Case) -> CaseRecord:
        return self.writer.write(case.name, prepare_case(case, self.task, self.settings), self.origins[case.name])


def _each(
    cases: list[Case], work: Callable[[Case], Any], workers: int, title: str
) -> tuple[dict[str, Any], list[CaseFault]]:
    """Apply `work` to every case, with a progress bar; collect results and faults."""
    results: dict[str, Any] = {}
    faults: list[CaseFault] = []
    bar = tqdm(total=len(cases), desc=title, unit="case", disable=not cases)
    if workers <= 1 or len(cases) <= 1:
        for case in cases:
            _collect(case, partial(work, case), results, faults)
            bar.update()
    else:
        # spawn: a process that has started torch threads must not be forked.
        with ProcessPoolExecutor(min(workers, len(cases)), mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(work, case): case for case in cases}
            try:
                for future in as_completed(futures):
                    _collect(futures[future], future.result, results, faults)
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    bar.close()
    return results, sorted(faults, key=str)


def _collect(case: Case, result: Callable[[], Any], results: dict[str, Any], faults: list[CaseFault]) -> None:
    try:
        results[case.name] = result()
    except DataFaults as error:
        faults += error.faults
