"""Many patients, in this process or in several."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from threadpoolctl import threadpool_limits

from ctp_ldm.phantom.anatomy import Atlas, load_atlas

Case = TypeVar("Case")
Result = TypeVar("Result")

_atlas: Atlas | None = None


def each_case(task: Callable[[Case], Result], cases: Sequence[Case], workers: int) -> Iterator[Result]:
    """Run `task` for each case, in order; both must be picklable where there is more than one worker."""
    if not cases:
        return
    atlas = shared_atlas()
    workers = min(workers, len(cases))
    if workers == 1:
        yield from map(task, cases)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker, (atlas,)) as pool:
        try:
            yield from pool.map(task, cases)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def shared_atlas() -> Atlas:
    """The atlas, made at first use in this process."""
    global _atlas
    if _atlas is None:
        _atlas = load_atlas()
    return _atlas


def _begin_worker(atlas: Atlas) -> None:
    global _atlas
    _atlas = atlas
    # One for each process is what there are cores for: small products that share them out again take longer.
    threadpool_limits(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A command that is killed cannot tell its workers to end: they would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
