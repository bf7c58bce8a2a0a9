"""The weights of one network as diffusers saves them, read from safetensors and nothing else."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ctp_ldm.runs import CheckpointError

NAME = "diffusion_pytorch_model"
LISTED = 12


def read_weights(folder: Path, kind: str) -> dict[str, Tensor]:
    """Weights by name, whether in one file or in parts; they stay on the disk until they are used.

    Args:
        folder: that diffusers' `save_pretrained` wrote.
        kind: name of the network's class, for messages.

    Raises:
        CheckpointError: missing, damaged, or pickled.
    """
    index = folder / f"{NAME}.safetensors.index.json"
    parts = read_json(index).get("weight_map", {}).values() if index.is_file() else [f"{NAME}.safetensors"]
    names = sorted(set(parts))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        raise CheckpointError(
            _pickled(folder, kind, pickled)
            if pickled
            else f"{folder} has no {', '.join(missing)}; found {sorted(path.name for path in folder.glob('*'))}"
        )
    return {key: value for name in names for key, value in read_tensors(folder / name).items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Of one safetensors file.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors, it is missing or damaged: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: missing, or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON, it is missing or damaged: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a JSON {type(content).__name__}; expected an object")
    return content


def weight_faults(found: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]]) -> list[str]:
    """A line for each kind of fault: names that are unknown, missing, or of another shape."""
    faults = {
        "unknown": [name for name in found if name not in expected],
        "missing": [name for name in expected if name not in found],
        "of another shape": [
            f"{name} {tuple(found[name].shape)}, expected {tuple(shape)}"
            for name, shape in expected.items()
            if name in found and tuple(found[name].shape) != tuple(shape)
        ],
    }
    return [f"{kind}: {_few(names)}" for kind, names in faults.items() if names]


def _few(names: Sequence[str]) -> str:
    more = f"; … and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return "; ".join(names[:LISTED]) + more


def _pickled(folder: Path, kind: str, files: Sequence[str]) -> str:
    return (
        f"{folder} has its weights in {', '.join(files)}, which can run code when it is read; expected "
        f"{NAME}.safetensors. If you trust where it comes from, write that beside it:\n"
        f"  from diffusers import {kind}\n"
        f'  {kind}.from_pretrained("{folder}", use_safetensors=False).save_pretrained("{folder}")'
    )
