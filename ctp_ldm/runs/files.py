"""Checkpoint files: written whole or not at all, read as tensors and plain data only."""

import os
import pickle
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

KEY = "ctp_ldm"
"""Under it every checkpoint says what it is."""
LEGACY = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)[2:8]
"""Near the beginning of what torch wrote before its zip format, whatever the pickle's protocol."""
IMPORT = "ctp-ldm convert {} OUT --config DATA"


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
        # Without the cause: torch's own words advise to read with weights_only=False, which runs what the file brings.
        reason = _why_unreadable(path, error)
        raise CheckpointError(f"checkpoint {path} cannot be loaded as tensors and plain data: {reason}") from None
    missing = [key for key in (KEY, "state_dict") if not isinstance(checkpoint, dict) or key not in checkpoint]
    if missing:
        raise CheckpointError(
            f"{path} is not a checkpoint of ctp-ldm (no key {missing[0]!r}); if it is a model in CompVis' layout, "
            f"import it: {IMPORT.format(path)}"
        )
    return checkpoint


def torch_format(path: Path) -> Literal["zip", "legacy", "other"]:
    """What the beginning of a file looks like, of which nothing is run; an empty one may have been the usual zip."""
    with path.open("rb") as file:
        head = file.read(32)
    if not head or head.startswith(b"PK"):
        return "zip"
    return "legacy" if LEGACY in head else "other"


def blocked_objects(error: Exception) -> list[str]:
    """Names of the Python objects because of which torch refused a file; empty where that was not why."""
    return re.findall(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else []


def _why_unreadable(path: Path, error: Exception) -> str:
    """In words that say what to do."""
    if isinstance(error, PermissionError):
        return f"there is no right to read it ({error}); give yourself that right"
    found = torch_format(path)
    if found == "other":
        return (
            f"it is no torch checkpoint; expected what a run wrote. Foreign models are imported: {IMPORT.format(path)}"
        )
    if found == "legacy":
        return f"it is of torch's old format, which no run here writes; import it: {IMPORT.format(path)}"
    if isinstance(error, pickle.UnpicklingError):
        names = ", ".join(blocked_objects(error)[:1])
        return (
            f"it holds Python objects beside tensors{f' ({names})' if names else ''}, which could run any code, so it "
            f"is refused. Foreign checkpoints are imported with {IMPORT.format(path)}, which says how to strip them"
        )
    return "it is truncated or damaged; copy it anew from where it is whole, or name another checkpoint of that run" + (
        f" ({error})" if str(error) else ""
    )


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
