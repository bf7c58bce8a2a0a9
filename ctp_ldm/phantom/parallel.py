"""Many patients, in this process or in several."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

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
    with ProcessPoolExecutor(workers, get_context("spawn"), _share_atlas, (atlas,)) as pool:
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


def _share_atlas(atlas: Atlas) -> None:
    global _atlas
    _atlas = atlas
