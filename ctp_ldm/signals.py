"""Signals that ask a run to stop: SIGINT (Ctrl-C), SIGTERM, and SIGUSR1, which clusters send before the time is up."""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
INTERRUPTED = {
    "validate": "interrupted; a cut-off that was kept before is as it was; the same command begins anew",
    "test": "interrupted; results of an earlier test are as they were; the same command begins anew",
    "predict": "interrupted; the cases that are written are whole; the same command makes all of them anew",
}
"""How a stage that trains nothing is left where Ctrl-C ends it."""


class StoppedBySignal(Exception):
    """A run has saved its state and ends because it was asked to.

    signal: that asked.
    """

    def __init__(self, asked: signal.Signals, message: str) -> None:
        super().__init__(message)
        self.signal = asked


def leave_signals_to_the_run(worker: int = 0) -> None:
    """For loader processes, which get the signals too: they work on until the run ends them."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


class StopSignals:
    """Notes the first such signal, so that a run can stop where its state is whole; a second one kills at once.

    A handler that saved by itself would interrupt the processes of a run at different points, where they wait for one
    another for ever.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._children: Sequence[subprocess.Popen[bytes]] = ()

    def install(self, children: Sequence[subprocess.Popen[bytes]] = ()) -> None:
        """Handle the signals from now on.

        Args:
            children: processes that a second signal must end too.
        """
        self._children = children
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._note) for number in STOPPING}

    def restore(self) -> None:
        """Give the signals back to whoever handled them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            # print() may be what was interrupted.
            os.write(2, f"\nctp-ldm: {self.received.name}: stopping after this step; again to stop at once\n".encode())
            return
        for child in self._children:
            child.kill()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
