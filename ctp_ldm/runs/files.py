"""Checkpoint files: written whole or not at all, read as tensors and plain data only."""

import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

KEY = "ctp_ldm"
"""Under it every checkpoint says what it is."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used here: missing, damaged, of another stage, of other scalings, of another size."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint of this project, tensors and plain data only, without reading all of it into memory.

    Raises:
        CheckpointError: missing, damaged, not loadable with `weights_only=True`, or not of this project.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} is missing; run the stage that writes it first, or name another one")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for damaged or malicious files
        raise CheckpointError(f"checkpoint {path} cannot be loaded as tensors and plain data: {error}") from error
    if not isinstance(checkpoint, dict) or KEY not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} is not a checkpoint of ctp-ldm (no key {KEY!r})")
    return checkpoint


def require_whole(path: Path) -> None:
    """Read all of a checkpoint against the checksums that torch writes beside every tensor.

    Raises:
        CheckpointError: truncated or altered.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from error
    if damaged is not None:
        raise CheckpointError(f"checkpoint {path} is damaged: {damaged} does not have its checksum")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there once it is on the disk.

    Lightning's own makes two copies of it in memory first, and does not wait for the disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write `path`; what was there stays whole until then.

        Raises:
            CheckpointError: no space, or no right to write there.
        """
        place = Path(path)
        partial = place.with_name(f".{place.name}.partial")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, partial)
            _flush(partial)
            partial.replace(place)
            _flush(place.parent)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError where the disk is full
            with suppress(OSError):
                partial.unlink()
            raise CheckpointError(
                f"checkpoint {place} could not be written ({error}); what was there before is whole. Make space on "
                "that disk and give the same command again: it goes on from the last checkpoint"
            ) from error


def _flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
