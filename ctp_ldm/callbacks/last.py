"""The checkpoint that an interrupted run goes on from."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from ctp_ldm.processes import any_process
from ctp_ldm.runs import CHECKPOINTS, LAST, PREVIOUS
from ctp_ldm.signals import StoppedBySignal, StopSignals


class LastCheckpoint(Checkpoint):
    """Writes `checkpoints/last.ckpt` after every validation, by steps and by time, and when a signal asks to stop.

    The one before it stays as `previous.ckpt`. A run that is started again with the same command ends with the weights
    that it would have had without the interruption. SIGTERM, SIGUSR1 and Ctrl-C stop a run at the end of an optimiser
    step, or of the validation that is running, in all processes at the same one; a second signal stops at once.

    Args:
        every_n_steps: optimiser steps between two checkpoints; None for no such rule.
        every_n_minutes: the same in minutes.

    Raises:
        ValueError: an interval is not above 0.
    """

    def __init__(self, every_n_steps: int | None = None, every_n_minutes: float | None = 30.0) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("every_n_minutes", every_n_minutes)):
            if value is not None and not value > 0:
                raise ValueError(f"checkpoint.{name} is {value}; expected above 0, or null")
        self.every_n_steps, self.every_n_minutes = every_n_steps, every_n_minutes
        self.signals = StopSignals()
        self._saved_at = time.monotonic()
        self._step = 0
        self._validation_due = False
        self._written = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == TrainerFn.FITTING:
            self.signals.install(getattr(trainer.strategy.launcher, "procs", ()))
            # Lightning's own handler for SIGTERM talks to the other processes from wherever it interrupts this one.
            trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.signals.restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.signals.restore()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved_at = time.monotonic()
        self._step = trainer.global_step
        if self._validation_due:  # the checkpoint was written before it
            self._validation_due = False
            loop = trainer.fit_loop.epoch_loop.val_loop
            loop.restarting = False  # from its first patient, not where an earlier one ended
            trainer.validating = True
            loop.run()
            trainer.training = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == self._step:  # gradients are being gathered, which no checkpoint holds
            return
        self._step = trainer.global_step
        loop = trainer.fit_loop.epoch_loop
        assert trainer.fit_loop._data_fetcher is not None
        validation_due = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
        if _finished(trainer):
            if not validation_due:
                self._save(trainer)
            return
        stop = any_process(self.signals.received is not None)
        if stop or self._due(trainer):
            self._save(trainer, validation_due)
        if stop:
            self._stop(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save(trainer)
            if not _finished(trainer) and any_process(self.signals.received is not None):
                self._stop(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"validation_due": self._validation_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validation_due = state_dict["validation_due"]

    def save_before_step(self, trainer: L.Trainer, batches: int) -> None:
        """Save the state of before the optimiser step that is under way, whose gradients are not applied yet.

        Args:
            trainer: that trains.
            batches: that the step has seen.
        """
        if trainer.global_step > 0:
            with _without_batches(trainer, batches):
                self._save(trainer)

    def _due(self, trainer: L.Trainer) -> bool:
        steps = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if self.every_n_minutes is None:
            return steps
        return any_process(steps or time.monotonic() - self._saved_at > 60 * self.every_n_minutes)

    def _save(self, trainer: L.Trainer, validation_due: bool = False) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            _try_saving(trainer)
            return
        folder = Path(trainer.default_root_dir) / CHECKPOINTS
        # A broken one, which was passed over, must not take the place of a whole one.
        last_is_whole = self._written or trainer.ckpt_path == str(folder / LAST)
        if trainer.is_global_zero and last_is_whole:
            (folder / LAST).replace(folder / PREVIOUS)
        self._validation_due = validation_due
        trainer.save_checkpoint(folder / LAST, weights_only=False)  # the optimiser and all else too
        self._validation_due = False
        self._written = True
        self._saved_at = time.monotonic()

    def _stop(self, trainer: L.Trainer) -> None:
        asked = self.signals.received or SIGTERM  # another process had it
        raise StoppedBySignal(
            asked,
            f"stopped by {asked.name} after step {trainer.global_step}; the same command goes on from "
            f"{Path(trainer.default_root_dir) / CHECKPOINTS / LAST}",
        )


def _finished(trainer: L.Trainer) -> bool:
    """Whether this was the last step of the run."""
    last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs
    return trainer.global_step == trainer.max_steps or (
        last_epoch and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    )


@contextmanager
def _without_batches(trainer: L.Trainer, batches: int) -> Iterator[None]:
    """Lightning's counters as they were before the last so many batches, of which the newest is not completed."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    found = progress.state_dict()
    for counts in (progress.total, progress.current):
        assert isinstance(counts, _ProcessedTracker)
        done = counts.completed - (batches - 1)
        counts.ready = counts.started = counts.processed = counts.completed = done
    loaders = [x for x in trainer.fit_loop._combined_loader.flattened if hasattr(x, "given")]  # type: ignore[union-attr]
    for loader in loaders:
        loader.given -= batches
    try:
        yield
    finally:
        progress.load_state_dict(found)
        for loader in loaders:
            loader.given += batches


def _try_saving(trainer: L.Trainer) -> None:
    """In a dry run: write a checkpoint, read it back and leave nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LAST
        trainer.save_checkpoint(path, weights_only=False)
        if trainer.is_global_zero:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            rank_zero_info(f"dry run: a checkpoint was written and read, {path.stat().st_size / 1e9:.3g} GB")
