"""A callback that leaves what each process ended with."""

from pathlib import Path
from typing import Any

import lightning as L
import torch


class Dump(L.Callback):
    """Writes `rank-<n>.pt` into the run folder: the weights at the end of training, not averaged."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        folder = Path(trainer.default_root_dir)
        torch.save(pl_module.state_dict(), folder / f"rank-{trainer.global_rank}.pt")

    def on_sanity_check_end(self, trainer: L.Trainer, *_: Any) -> None:
        rows = trainer.lightning_module.val_metrics._update_count  # type: ignore[union-attr, operator]
        (Path(trainer.default_root_dir) / f"sanity-{trainer.global_rank}.txt").write_text(str(rows))
