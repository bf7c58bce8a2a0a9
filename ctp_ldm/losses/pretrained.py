"""A frozen network read from files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ctp_ldm.networks import MONAI_NETWORKS, ConfigError, build_component


def load_pretrained(key: str, config: Mapping[str, Any], weights: Path, prefix: str) -> nn.Module:
    """Build one of MONAI's networks with the weights of a file, frozen and in evaluation mode.

    Args:
        key: of the network's config section, for messages.
        config: `_class_name`, a class of `monai.networks.nets`, and its arguments.
        weights: a safetensors file, or a torch file (read as tensors and plain data only) that holds a state dict,
            itself or under `state_dict` as Lightning writes it.
        prefix: of the network's keys in the file; all others are left alone.

    Raises:
        ConfigError: of the network, or a file that is missing, damaged, or of another network.
    """
    network: nn.Module = build_component(key, config, MONAI_NETWORKS)
    state = _read(weights)
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    try:
        keys = network.load_state_dict(own, strict=False)
        faults = [f"missing in the file: {prefix}{name}" for name in keys.missing_keys]
        faults += [f"unknown to the network: {prefix}{name}" for name in keys.unexpected_keys]
    except RuntimeError as error:  # other shapes, one a line
        faults = [line.strip() for line in str(error).splitlines()[1:]]
    if faults:
        listing = "\n  ".join(faults[:8]) + (f"\n  … and {len(faults) - 8} more" if len(faults) > 8 else "")
        raise ConfigError(
            f"the weights in {weights} do not fit {key} ({type(network).__name__}); expected the network they were "
            f"trained in and the prefix of its keys (prefix is {prefix!r}, the file's first key {next(iter(state))!r})"
            f"\n  {listing}"
        )
    return network.requires_grad_(False).eval()


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"weights {path} are missing; expected a safetensors or torch file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both raise many kinds for damaged or malicious files
        raise ConfigError(f"weights {path} cannot be read as tensors and plain data: {error}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"{path} holds no weights; expected a dictionary of tensors, or one under 'state_dict'")
    return state
