"""Many parts side by side, each in processes of its own."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from tqdm import tqdm

from ctp_ldm.signals import StoppedBySignal

ENDING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
Key = TypeVar("Key", bound=Hashable)


class PartFailed(ValueError):
    """Some of many did not end well; the others were made nevertheless."""


class Processes:
    """Runs commands of `ctp-ldm`, and ends those that run when it is left: they save their state then.

    Args:
        threads: for each process.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._leaving = False

    def run(self, arguments: Sequence[str], log: Path) -> None:
        """Run one, its output appended to `log`.

        Raises:
            PartFailed: with the last lines of its log.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        with log.open("ab") as output:
            with self._lock:
                if self._leaving:
                    raise PartFailed(f"not run: {' '.join(arguments)}")
                process = subprocess.Popen(
                    [sys.executable, "-m", "ctp_ldm", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    # Ctrl-C is for the study, which then asks them once; asked twice they stop without saving.
                    start_new_session=True,
                )
                self._running.add(process)
            status = process.wait()
        with self._lock:
            self._running.discard(process)
        if status != 0:
            last = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise PartFailed(
                f"ctp-ldm {arguments[0]} ended with status {status}; {log} ends with\n  " + "\n  ".join(last)
            )

    def leave(self) -> None:
        """Ask those that run to stop, and wait for them."""
        with self._lock:
            self._leaving = True
            running = list(self._running)
        for process in running:
            # All of its session: workers of phantom and prepare would wait for work for ever.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            process.wait()


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM, SIGUSR1 and a lost terminal (SIGHUP) end the block, as Ctrl-C does.

    Raises:
        StoppedBySignal
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        asked = signal.Signals(number)
        raise StoppedBySignal(asked, f"{asked.name}: the parts have saved their state; the same command goes on")

    before = {number: signal.signal(number, stop) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_all(
    needs: Mapping[Key, Sequence[Key]], work: Callable[[Key], None], jobs: int, leave: Callable[[], None], title: str
) -> None:
    """Do all work that is needed before other work, and then that, `jobs` at a time.

    Args:
        needs: piece of work → what has to be done before it; the order of the pieces is kept where it can be.
        work: does a piece; runs in a thread. A ValueError or OSError fails this piece, anything else ends all.
        leave: called when the user interrupts, before the threads are waited for.
        title: of the progress bar.

    Raises:
        PartFailed: naming every piece that failed, once all that does not need them is done.
    """
    order = TopologicalSorter(needs)
    order.prepare()
    places = {key: i for i, key in enumerate(needs)}
    ready: list[Key] = list(order.get_ready())
    failed: dict[Key, str] = {}
    running: dict[Future[None], Key] = {}
    with ThreadPoolExecutor(jobs) as threads, tqdm(total=len(needs), desc=title, unit="step") as bar:
        try:
            while ready or running:
                ready.sort(key=lambda key: places[key])
                while ready and len(running) < jobs:
                    key = ready.pop(0)
                    running[threads.submit(work, key)] = key
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    key = running.pop(future)
                    bar.update()
                    error = future.exception()
                    if isinstance(error, ValueError | OSError):
                        failed[key] = str(error)
                    elif error is not None:
                        raise error
                    else:
                        order.done(key)
                ready += order.get_ready()
        except BaseException:
            leave()
            raise
    if failed:
        left = (
            len(needs) - len(failed) - sum(1 for key in needs if key not in failed and _waits_for(key, failed, needs))
        )
        raise PartFailed(
            f"{len(failed)} of {len(needs)} steps failed, {left} are done:\n"
            + "\n".join(f"{_name(key)}: {message}" for key, message in failed.items())
            + "\nMend what is wrong and give the same command again."
        )


def _name(key: Hashable) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _waits_for(key: Key, failed: Mapping[Key, str], needs: Mapping[Key, Sequence[Key]]) -> bool:
    return any(other in failed or _waits_for(other, failed, needs) for other in needs[key])
