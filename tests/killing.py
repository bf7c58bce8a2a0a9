"""A callback that ends its own process where the test wants it."""

import os
import signal
from typing import Any

import lightning as L

from ctp_ldm.runs import files

PLACES = ("batch start", "before step", "batch end", "validation", "written", "moved", "asked", "asked in validation")
"""The last two are SIGTERM, which lets the run save; the others SIGKILL. Written and moved: within a checkpoint."""


class Kill(L.Callback):
    """Ends process `rank` at the first such place after so many batches."""

    def __init__(self, place: str, after: int, rank: int = 0) -> None:
        assert place in PLACES
        self.place, self.after, self.rank = place, after, rank
        self.batches, self.done = 0, False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        flush, self.here = files._flush, trainer.global_rank == self.rank

        def kill_within(path: Any) -> None:
            flush(path)
            self._reach("moved" if path.is_dir() else "written")

        files._flush = kill_within

    def _reach(self, place: str) -> None:
        if self.here and place == self.place and self.batches >= self.after and not self.done:
            self.done = True
            os.kill(os.getpid(), signal.SIGTERM if place.startswith("asked") else signal.SIGKILL)

    def on_train_batch_start(self, *_: Any) -> None:
        self.batches += 1
        self._reach("batch start")
        self._reach("asked")

    def on_before_optimizer_step(self, *_: Any) -> None:
        self._reach("before step")

    def on_train_batch_end(self, *_: Any) -> None:
        self._reach("batch end")

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self._reach("validation")
            self._reach("asked in validation")
