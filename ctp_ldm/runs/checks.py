"""What can be told before hours of training."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning as L
from torch import nn

from ctp_ldm.runs.folder import CHECKPOINTS, RunFolderError

FILES = 3  # best, previous, and the last one that is being written
MOMENTS = 2  # that Adam keeps of each weight


def require_all(checks: Sequence[Callable[[], None]]) -> None:
    """Make all checks and report all faults at once.

    Raises:
        ValueError: of the one that failed, or of its own kind with the messages of all.
    """
    faults: list[ValueError] = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise ValueError("\n".join(str(fault) for fault in faults))


def require_validation(trainer: L.Trainer) -> None:
    """Refuse a run that would end before its first validation, and so without a best checkpoint.

    Raises:
        ValueError
    """
    interval, steps = trainer.val_check_interval, trainer.max_steps
    if trainer.limit_val_batches == 0 or trainer.check_val_every_n_epoch is not None:  # as in dry runs
        return
    batches = steps * trainer.accumulate_grad_batches
    if isinstance(interval, int) and 0 < batches < interval:
        raise ValueError(
            f"trainer.val_check_interval is {interval} batches, but trainer.max_steps {steps} are only {batches}: no "
            "validation would choose a checkpoint; make the interval smaller"
        )


def checkpoint_bytes(model: nn.Module, averaged: bool) -> int:
    """Estimated size of a training checkpoint: all weights, Adam's moments and a second copy of averaged weights."""
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    trained = [value for value in model.parameters() if value.requires_grad]
    extra = (MOMENTS + averaged) * sum(value.nbytes for value in trained)
    return sum(value.nbytes for value in weights.values()) + extra


def require_space(folder: Path, checkpoint_bytes: int) -> None:
    """Refuse to start where the disk cannot take the run's checkpoints.

    Args:
        folder: of the run; it need not exist yet.
        checkpoint_bytes: estimated size of one.

    Raises:
        RunFolderError
    """
    there = sum(file.stat().st_size for file in (folder / CHECKPOINTS).glob("*.ckpt"))
    needed = FILES * checkpoint_bytes - there
    existing = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise RunFolderError(
            f"the disk of {folder} has {_gigabytes(free)} free; expected {_gigabytes(needed)} for checkpoints "
            f"({FILES} of {_gigabytes(checkpoint_bytes)}, less what is there): make space or choose another "
            "trainer.default_root_dir"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
