"""The results of one evaluation appear together: never of two models, never half of them."""

import shutil
from pathlib import Path

import lightning as L
from lightning.pytorch.utilities import rank_zero_info


class ResultFolder:
    """`test` in a run's folder. Results are gathered in `.test` beside it, which takes its place once all are there.

    All processes of a run make one, begin and finish it at the same points.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self._trainer = trainer
        self.final = Path(trainer.default_root_dir) / "test"
        self.partial = self.final.with_name(".test")
        self._before = self.final.with_name(".test-before")

    def begin(self) -> None:
        """Remove what a test that was killed has left; the results of the last whole one stay until `finish`."""
        if self._trainer.is_global_zero:
            for leftover in (self.partial, self._before):
                shutil.rmtree(leftover, ignore_errors=True)
            self.partial.mkdir(parents=True)
        self._trainer.strategy.barrier()

    def finish(self) -> None:
        """Let the results appear; those of an earlier test go, and that is said."""
        self._trainer.strategy.barrier()
        if self._trainer.is_global_zero:
            if self.final.exists():
                rank_zero_info(f"{self.final}: the results of an earlier test are replaced")
                self.final.rename(self._before)
            self.partial.rename(self.final)
            shutil.rmtree(self._before, ignore_errors=True)
