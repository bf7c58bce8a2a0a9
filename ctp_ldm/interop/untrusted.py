"""Somebody else's checkpoint file: tensors and plain data, or a refusal."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

from ctp_ldm.runs import CheckpointError
from ctp_ldm.runs.files import blocked_objects, torch_format


def read_untrusted(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights, and what is saved beside them, without running anything that the file brings.

    Raises:
        CheckpointError: missing, damaged, with other Python objects than tensors and plain data, or without weights.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} is missing")
    if torch_format(path) == "other":
        # Before torch looks at it, which warns of a plain pickle and advises to run it.
        raise CheckpointError(
            f"{path} is no torch checkpoint, but a plain pickle, a text or another file; expected what torch.save "
            "wrote, or a diffusers folder"
        )
    is_zip = zipfile.is_zipfile(path)
    try:
        blocked = get_unsafe_globals_in_checkpoint(path) if is_zip else []
        if blocked:
            raise CheckpointError(_refusal(path, sorted(blocked)))
        # Only torch's zip format can be mapped into memory; very old files are not of that format.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except Exception as error:  # torch raises many kinds for damaged or malicious files
        found = blocked_objects(error)
        if found:
            raise CheckpointError(_refusal(path, found[:1])) from None
        raise CheckpointError(
            f"checkpoint {path} cannot be read: it is truncated, damaged or not a torch file ({_first_line(error)}); "
            "compare its size and checksum with the original's"
        ) from None
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} holds no weights: expected a dictionary of tensors, or one under 'state_dict'")
    return state, {k: v for k, v in checkpoint.items() if state is not checkpoint and k != "state_dict"}


def _refusal(path: Path, blocked: list[str]) -> str:
    stripped = path.with_suffix(".weights.ckpt").name
    return (
        f"checkpoint {path} holds Python objects beside tensors ({', '.join(blocked)}); reading them could run any "
        "code that the file brings, so it is refused. If you trust where it comes from, strip it on a machine where "
        "that can do no harm and that has the packages it was saved with, and read the result:\n"
        f'  weights = torch.load("{path.name}", map_location="cpu", weights_only=False)["state_dict"]\n'
        f'  torch.save({{"state_dict": weights}}, "{stripped}")'
    )


def _first_line(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return "its pickle is not one of tensors"  # torch's own words advise to run it
    return (str(error).strip() or type(error).__name__).splitlines()[0]
