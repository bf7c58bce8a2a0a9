"""The command in processes of its own, one or several for a run, without waiting for torch's import each time."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["ctp_ldm.stages", "ctp_ldm.modules", "monai.networks.nets"])


class Run:
    """`ctp-ldm …` under way in `folder`; what it says goes to `folder/<name>-<rank>.log`."""

    def __init__(self, arguments: list[str], folder: Path, processes: int = 1, name: str = "run") -> None:
        self.logs = [folder / f"{name}-{rank}.log" for rank in range(processes)]
        port = _free_port()
        self.processes: list[ForkServerProcess] = []
        for rank, log in enumerate(self.logs):
            # As a cluster's launcher does: the processes find one another by these.
            names = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": processes, "MASTER_PORT": port}
            environment = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
            if processes > 1:
                environment |= {key: str(value) for key, value in names.items()}
            distributed = [f"--trainer.devices={processes}", "--trainer.strategy=ddp"] if processes > 1 else []
            process = _context.Process(target=_main, args=([*arguments, *distributed], folder, environment, log))
            process.start()
            self.processes.append(process)

    def wait(self, seconds: float = 300) -> list[int]:
        """Exit codes (−9 for SIGKILL); when one process dies by a signal the others are killed, as a launcher does."""
        end = time.monotonic() + seconds
        while any(process.is_alive() for process in self.processes):
            died = any((process.exitcode or 0) < 0 for process in self.processes)
            if died or time.monotonic() > end:
                for process in self.processes:
                    process.kill()
            time.sleep(0.02)
        for process in self.processes:
            process.join()
        assert time.monotonic() < end, f"took longer than {seconds} s: {self.said()[-3000:]}"
        return [int(process.exitcode or 0) for process in self.processes]

    def send(self, number: signal.Signals, rank: int = 0) -> None:
        """A signal to one process."""
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def said(self) -> str:
        """What all processes wrote."""
        return "\n".join(log.read_text() for log in self.logs if log.exists())


def run_to_end(arguments: list[str], folder: Path, processes: int = 1, name: str = "run") -> str:
    """Run the command; it must succeed. Returns what it said."""
    run = Run(arguments, folder, processes, name)
    codes = run.wait()
    assert codes == [0] * processes, run.said()[-3000:]
    return run.said()


def _main(arguments: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    os.environ.update(environment)
    os.chdir(folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    import torch

    torch.set_num_threads(1)
    from ctp_ldm.cli import main

    main(arguments)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Returns once the condition holds; fails when it takes longer."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
