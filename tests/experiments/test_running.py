"""Many parts side by side."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ctp_ldm.experiments.running import PartFailed, Processes, run_all

NEEDS = {"base": [], "rival": [], "ours": ["base"], "control": ["base"], "mean": ["ours"]}


def test_work_is_done_after_what_it_needs_and_side_by_side() -> None:
    done: list[str] = []
    both = threading.Barrier(2, timeout=30)

    def work(key: str) -> None:
        if key in ("base", "rival"):
            both.wait()
        done.append(key)

    run_all(NEEDS, work, 2, lambda: None, "test")
    assert sorted(done) == sorted(NEEDS)
    for key, before in NEEDS.items():
        assert all(done.index(other) < done.index(key) for other in before)


def test_a_failure_costs_only_what_needs_it_and_is_told() -> None:
    done: list[str] = []

    def work(key: str) -> None:
        if key == "ours":
            raise PartFailed("no space")
        done.append(key)

    with pytest.raises(PartFailed, match=r"1 of 5 steps failed, 3 are done:\nours: no space") as failure:
        run_all(NEEDS, work, 1, lambda: None, "test")
    assert sorted(done) == ["base", "control", "rival"]
    assert "give the same command again" in str(failure.value)


def test_a_fault_of_our_own_ends_everything() -> None:
    left = []

    def work(key: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_all(NEEDS, work, 1, lambda: left.append(True), "test")
    assert left == [True]


def test_a_command_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "part.log"
    with pytest.raises(PartFailed, match="unknown command 'nonsense'") as failure:
        Processes(1).run(["nonsense"], log)
    assert str(log) in str(failure.value)


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_ends_the_processes_that_run(tmp_path: Path, asked: signal.Signals) -> None:
    script = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        # A shell that runs this in the background has SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from ctp_ldm.experiments.running import Processes, run_all, stopped_by_signals\n"
        "processes = Processes(1)\n"
        "def work(key):\n"
        "    processes.run(['phantom', sys.argv[1], '--size=tiny', '--cases=5000'], Path(sys.argv[1] + '.log'))\n"
        "with stopped_by_signals():\n"
        "    run_all({'a': []}, work, 1, processes.leave, 'test')\n"
    )
    tree = tmp_path / "tree"
    study = subprocess.Popen([sys.executable, "-c", script, str(tree)], stderr=subprocess.PIPE)
    try:
        for _ in range(1800):
            if tree.exists():
                break
            time.sleep(0.1)
        assert tree.is_dir(), "the process never ran"
        (leader,) = found("-f", f"ctp_ldm phantom {tree}")
        study.send_signal(asked)
        study.communicate(timeout=120)
        assert study.returncode != 0
        assert found("-s", leader) == [], "a process of its session is left, such as a worker"
    finally:
        study.kill()
        subprocess.run(["pkill", "-9", "-f", f"ctp_ldm phantom {tree}"], check=False)


def found(*arguments: str) -> list[str]:
    """Process numbers."""
    return subprocess.run(["pgrep", *arguments], capture_output=True, text=True, check=False).stdout.split()
