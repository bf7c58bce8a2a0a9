"""The same work on many cases, in several processes, with a progress bar."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ctp_ldm.data.cases import Case
from ctp_ldm.data.faults import CaseFault, DataFaults

Result = TypeVar("Result")


def each_case(
    cases: list[Case], work: Callable[[Case], Result], workers: int, title: str
) -> tuple[dict[str, Result], list[CaseFault]]:
    """Apply `work` to every case; what raises `DataFaults` ends that case alone.

    Args:
        cases: what to work on.
        work: picklable where there is more than one worker.
        workers: processes.
        title: of the progress bar.

    Returns:
        Results by case name, and the faults, sorted.
    """
    results: dict[str, Result] = {}
    faults: list[CaseFault] = []

    def collect(case: Case, result: Callable[[], Result]) -> None:
        try:
            results[case.name] = result()
        except DataFaults as error:
            faults.extend(error.faults)
        bar.update()

    with tqdm(total=len(cases), desc=title, unit="case", disable=not cases) as bar:
        if workers <= 1 or len(cases) <= 1:
            for case in cases:
                collect(case, lambda case=case: work(case))  # type: ignore[misc]
            return results, sorted(faults, key=str)
        # spawn: a process that has started torch threads must not be forked. Each has its share of the cores: threads
        # that wait for one another's cores are slower than none.
        processes = min(workers, len(cases))
        share = max(1, torch.get_num_threads() // processes)
        with ProcessPoolExecutor(processes, get_context("spawn"), _keep_to, (share,)) as pool:
            futures = {pool.submit(work, case): case for case in cases}
            try:
                for future in as_completed(futures):
                    collect(futures[future], future.result)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return results, sorted(faults, key=str)


def _keep_to(threads: int) -> None:
    """Let torch and the libraries under numpy and scipy use no more."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)
