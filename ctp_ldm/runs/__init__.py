"""A run's folder: its checkpoints on disk, who writes there, how it goes on, and what can be told before it starts."""

from ctp_ldm.runs.files import KEY, AtomicCheckpointIO, CheckpointError, read_checkpoint
from ctp_ldm.runs.folder import CHECKPOINTS, LAST, PREVIOUS, hold
from ctp_ldm.runs.text import write_text

__all__ = [
    "CHECKPOINTS",
    "KEY",
    "LAST",
    "PREVIOUS",
    "AtomicCheckpointIO",
    "CheckpointError",
    "hold",
    "read_checkpoint",
    "write_text",
]
