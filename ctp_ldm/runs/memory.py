"""Out of memory, in words that help."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch

SIGNS = ("out of memory", "not enough memory", "can't allocate memory")


class OutOfMemory(ValueError):
    """The device has too little memory for the config; says which lines of it help."""


@contextmanager
def explain_memory(trainer: L.Trainer, batch_size: int) -> Iterator[None]:
    """Say what to change where torch only says that memory is out.

    Args:
        trainer: that runs.
        batch_size: slices per process and step.

    Raises:
        OutOfMemory
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in SIGNS)):
            raise
        accumulated = trainer.accumulate_grad_batches
        first = str(error).strip().splitlines()[0]
        raise OutOfMemory(
            f"out of memory ({first}). What helps, in this order:\n"
            f"  trainer.precision: bf16-mixed (now {trainer.precision})\n"
            f"  data.batch_size: {max(1, batch_size // 2)} (now {batch_size}) with "
            f"trainer.accumulate_grad_batches: {2 * accumulated} (now {accumulated}) takes as many samples per step\n"
            "  model.checkpoint_decoder: true in post-training, which computes the decoder twice and keeps less\n"
            "  ema: null, one copy of the trained weights less"
        ) from error
