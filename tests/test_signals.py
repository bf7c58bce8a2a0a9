"""Signals stop a run where its state is whole, in all of its processes at the same step."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from launching import Run, run_to_end, wait_for
from running import Command, options
from torch import Tensor

from ctp_ldm.cli import main
from ctp_ldm.commands import demo
from ctp_ldm.sample import Sample
from ctp_ldm.signals import STOPPING, StoppedBySignal, StopSignals

ROOT = Path("runs/run")
CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGINT: 130}


@pytest.fixture
def arguments(store: Path, tmp_path: Path) -> list[str]:
    """Six steps of an autoencoder in runs/run, the fourth of which is validated."""
    return [
        "fit",
        *options("demo/autoencoder.yaml", store, tmp_path),
        f"--trainer.default_root_dir={ROOT}",
        "--trainer.max_steps=6",
        "--trainer.val_check_interval=4",
        "--trainer.num_sanity_val_steps=0",
        "--trainer.limit_val_batches=2",
    ]


def content(folder: Path = Path(), name: str = "last") -> dict[str, Any]:
    return dict(torch.load(folder / ROOT / f"checkpoints/{name}.ckpt", weights_only=True))


def callback(which: str, **values: object) -> list[str]:
    """Of this file."""
    start = f"--trainer.callbacks+=test_signals.{which}"
    return [start, *[f"--trainer.callbacks.{key}={value}" for key, value in values.items()]]


class Ask(L.Callback):
    """Sends its own process a signal in one step, counted from 1, or in the validation after it."""

    def __init__(self, name: str, step: int, validation: bool = False) -> None:
        self.number, self.step, self.validation = signal.Signals[name], step, validation

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step + 1 == self.step and not self.validation:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        first = arguments[3] == 0
        if trainer.global_step == self.step and self.validation and first:
            os.kill(os.getpid(), self.number)


# ------------------------------------------------------------------------------------------------------ one process


@pytest.fixture
def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in STOPPING]


@pytest.mark.parametrize("number", CODES)
def test_a_signal_stops_after_the_step_and_the_same_command_goes_on(
    number: signal.Signals, command: Command, arguments: list[str], handlers: list[Any]
) -> None:
    with pytest.raises(StoppedBySignal) as stop:
        command(*arguments, *callback("Ask", name=number.name, step=2))
    assert stop.value.signal == number
    assert str(stop.value) == (
        f"stopped by {number.name} after step 2; the same command goes on from {ROOT}/checkpoints/last.ckpt"
    )
    assert [signal.getsignal(n) for n in STOPPING] == handlers
    assert content()["global_step"] == 2
    command(*arguments, *callback("Ask", name=number.name, step=2))
    assert content()["global_step"] == 6
    assert [signal.getsignal(n) for n in STOPPING] == handlers


@pytest.mark.parametrize(("step", "validation"), [(3, False), (4, False), (4, True)])
def test_a_stopped_run_ends_as_one_that_was_not(
    step: int, validation: bool, command: Command, arguments: list[str]
) -> None:
    """Before, in the step of, and in a validation, which is made up for."""
    values = []
    for asked in (True, False):
        root = f"--trainer.default_root_dir=runs/{asked}"
        more = callback("Ask", name="SIGTERM", step=step, validation=validation)
        if asked:
            with pytest.raises(StoppedBySignal, match=f"after step {step};"):
                command(*arguments, root, *more)
        command(*arguments, root)
        values.append(
            [torch.load(f"runs/{asked}/checkpoints/{name}.ckpt", weights_only=True) for name in ("last", "best")]
        )
    for stopped, straight in zip(*values, strict=True):
        assert stopped["global_step"] == straight["global_step"]
        for key, value in straight["state_dict"].items():
            assert torch.equal(stopped["state_dict"][key], value), key


@pytest.mark.parametrize(("number", "code"), CODES.items())
def test_the_exit_code_names_the_signal_and_a_line_says_where_to_go_on(
    number: signal.Signals,
    code: int,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main([*arguments, *callback("Ask", name=number.name, step=1)])
    assert end.value.code == code
    said = capfd.readouterr().err
    assert f"ctp-ldm: {number.name}: stopping after this step; again to stop at once" in said
    line = f"ctp-ldm: stopped by {number.name} after step 1; the same command goes on from {ROOT}/checkpoints/last.ckpt"
    assert said.splitlines()[-1] == line


def test_a_signal_in_the_last_step_lets_the_run_finish_and_keeps_what_would_follow_from_starting(
    command: Command, arguments: list[str], handlers: list[Any]
) -> None:
    with pytest.raises(StoppedBySignal, match="SIGTERM came when the run was finished"):
        command(*arguments, *callback("Ask", name="SIGTERM", step=6))
    assert content()["global_step"] == 6
    assert [signal.getsignal(n) for n in STOPPING] == handlers
    command(*arguments)
    assert content()["global_step"] == 6


class Interrupt(L.Callback):
    """Ctrl-C in the second batch of a stage that trains nothing."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.batches = 0

    def _count(self, *_: Any) -> None:
        self.batches += 1
        if self.batches == 2:
            os.kill(os.getpid(), signal.SIGINT)

    on_validation_batch_start = on_test_batch_start = on_predict_batch_start = _count


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ("validate", "the same command begins anew"),
        ("test", "results of an earlier test are as they were"),
        ("predict", "the cases that are written are whole"),
    ],
)
def test_ctrl_c_in_a_stage_that_trains_nothing_ends_with_130_and_says_how_to_go_on(
    stage: str, says: str, arguments: list[str], command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    command(*arguments, "--trainer.max_steps=1", "--trainer.val_check_interval=1")
    judged = [stage, *(word for word in arguments[1:] if "_sanity_" not in word)]
    with pytest.raises(SystemExit) as end:
        main([*judged, *callback("Interrupt")])
    assert end.value.code == 130
    assert says in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) == before
    assert not (ROOT / "test").exists()


def test_a_stop_ends_the_demo_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun = []

    def stage(arguments: list[str]) -> None:
        begun.append(arguments)
        raise StoppedBySignal(signal.SIGTERM, "stopped")

    monkeypatch.chdir(tmp_path)
    for name in ("phantom", "run_command"):
        monkeypatch.setattr(demo, name, lambda *_, **__: None)
    monkeypatch.setattr(demo, "run_stage", stage)
    with pytest.raises(StoppedBySignal):
        demo.demo()
    assert len(begun) == 1


def test_an_error_in_training_gives_the_signals_back(
    command: Command, arguments: list[str], handlers: list[Any]
) -> None:
    with pytest.raises(ZeroDivisionError):
        command(*arguments, *callback("Fail"))
    assert [signal.getsignal(n) for n in STOPPING] == handlers


class Fail(L.Callback):
    def on_train_batch_start(self, *_: Any) -> None:
        raise ZeroDivisionError


def test_a_second_signal_goes_to_the_handler_that_ends_the_process() -> None:
    """And to the processes that it started."""
    script = (
        "import os, signal, subprocess, sys\n"
        "from ctp_ldm.signals import StopSignals\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "signals = StopSignals()\n"
        "signals.install([child])\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "assert signals.received == signal.SIGTERM\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('still here')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGINT
    child = int(ended.stdout)
    wait_for(lambda: not is_running(child), seconds=10)


def is_running(pid: int) -> bool:
    """A process that has died but was not waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_handlers_are_installed_once_and_given_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    signals = StopSignals()
    signals.install()
    signals.install()
    assert signal.getsignal(signal.SIGUSR1) != before
    signals.restore()
    signals.restore()
    assert signal.getsignal(signal.SIGUSR1) == before
    assert signals.received is None


# --------------------------------------------------------------------------------------------------- real processes


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts the command in `tmp_path`; whatever is left of it ends with the test."""
    runs: list[Run] = []

    def run(arguments: list[str], processes: int = 1) -> Run:
        runs.append(Run(arguments, tmp_path, processes))
        return runs[-1]

    yield run
    for process in [process for run in runs for process in run.processes]:
        process.kill()


class Stuck(L.Callback):
    """A step that takes very long, in one process."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step + 1 == self.step:
            (Path(trainer.default_root_dir) / "stuck").touch()
            end = time.monotonic() + 120
            while time.monotonic() < end:
                time.sleep(0.05)


class Slow(L.Callback):
    """Leaves time to send signals in the fourth step, until which nothing happens."""

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 3:
            (Path(trainer.default_root_dir) / f"slow-{trainer.global_rank}").touch()
            wait_for(lambda: (Path(trainer.default_root_dir) / "go").exists())


class NaNInRank1(L.Callback):
    """Its loss in the third step; notes the cases that were in the batch."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss = pl_module.loss

        def spoilt(batch: Sample) -> dict[str, Tensor]:
            terms = loss(batch)  # type: ignore[operator]
            if trainer.global_step == 2:
                slices = zip(batch["case"], batch["slice_index"].tolist(), strict=True)
                path = Path(trainer.default_root_dir) / f"slices-{trainer.global_rank}"
                path.write_text(", ".join(f"{case} slice {index}" for case, index in slices))
                if trainer.global_rank == 1:
                    terms["l1"] = terms["l1"] * torch.nan
            return terms

        pl_module.loss = spoilt  # type: ignore[assignment]


def children(pid: int) -> list[int]:
    """Of a process, and theirs."""
    found = [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    return found + [inner for child in found for inner in children(child)]


@pytest.mark.slow
def test_a_second_signal_ends_a_run_that_is_stuck(
    arguments: list[str], tmp_path: Path, start: Callable[..., Run]
) -> None:
    run = start([*arguments, *callback("Stuck", step=3)])
    wait_for((tmp_path / ROOT / "stuck").exists)
    run.send(signal.SIGTERM)
    wait_for(lambda: "SIGTERM: stopping after this step" in run.said())
    time.sleep(0.5)
    assert run.processes[0].is_alive()
    run.send(signal.SIGTERM)
    begun = time.monotonic()
    assert run.wait(60) == [-signal.SIGTERM]
    assert time.monotonic() - begun < 5


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_two_processes_stops_both_at_the_same_step(
    rank: int, arguments: list[str], tmp_path: Path, start: Callable[..., Run]
) -> None:
    run = start([*arguments, *callback("Slow")], processes=2)
    wait_for(lambda: all((tmp_path / ROOT / f"slow-{r}").exists() for r in (0, 1)))
    run.send(signal.SIGTERM, rank)
    wait_for(lambda: "SIGTERM: stopping" in run.said())
    (tmp_path / ROOT / "go").touch()
    assert run.wait(120) == [143, 0], run.said()[-3000:]
    assert run.said().count("ctp-ldm: stopped by SIGTERM after step 4; the same command goes on") == 1
    assert content(tmp_path)["global_step"] == 4
    assert [p.name for p in (tmp_path / ROOT / "checkpoints").iterdir()] == ["last.ckpt"]
    run_to_end([*arguments, *callback("Slow")], tmp_path, processes=2)
    assert content(tmp_path)["global_step"] == 6


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_one_process_stops_both_at_once(
    arguments: list[str], tmp_path: Path, start: Callable[..., Run]
) -> None:
    begun = time.monotonic()
    run = start([*arguments, *callback("NaNInRank1")], processes=2)
    assert run.wait(120) == [1, 1], run.said()[-3000:]
    assert time.monotonic() - begun < 60
    first = run.logs[0].read_text()
    assert "training stopped before step 3:" in first
    assert f"loss is not finite in the batch: {(tmp_path / ROOT / 'slices-1').read_text()}" in first
    assert content(tmp_path)["global_step"] == 2
    # The gradient of the others is infinite too, as it is the mean of all; their slices are innocent.
    assert (tmp_path / ROOT / "slices-0").read_text() not in first


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_loader_processes_survive_a_signal_to_the_whole_group(
    number: signal.Signals, arguments: list[str], tmp_path: Path, start: Callable[..., Run]
) -> None:
    """As a terminal's Ctrl-C and a cluster's time limit send it."""
    run = start([*arguments, "--data.num_workers=2", *callback("Slow")])
    wait_for((tmp_path / ROOT / "slow-0").exists)
    pid = run.processes[0].pid
    assert pid is not None
    workers = [child for child in children(pid) if Path(f"/proc/{child}/comm").read_text() == "pt_data_worker\n"]
    assert len(workers) == 2
    for process in [*workers, pid]:
        os.kill(process, number)
    wait_for(lambda: f"{number.name}: stopping" in run.said())
    time.sleep(0.5)  # so long a process takes to die
    assert all(is_running(worker) for worker in workers)
    (tmp_path / ROOT / "go").touch()
    assert run.wait(120) == [CODES[number]], run.said()[-3000:]
    assert f"stopped by {number.name} after step 4" in run.said()
    assert content(tmp_path)["global_step"] == 4
    wait_for(lambda: not any(is_running(worker) for worker in workers), seconds=20)
