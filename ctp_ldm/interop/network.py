"""A diffusers network as plain data: what it is built from, and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DModel, VQModel
from torch import Tensor, nn

from ctp_ldm.networks import build_component
from ctp_ldm.runs import CheckpointError
from ctp_ldm.spec import DataSpec

CLASSES = {"VQModel": VQModel, "AutoencoderKL": AutoencoderKL, "UNet2DModel": UNet2DModel}


@dataclass(frozen=True)
class Network:
    """Config and weights of one network.

    config: diffusers' `config.json` without in_channels and out_channels, as the stages' configs have it.
    state: the weights under diffusers' names; empty while only the architecture is known.
    """

    config: Mapping[str, Any]
    in_channels: int
    out_channels: int
    state: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def build(self) -> nn.Module:
        """The diffusers model with these weights, in evaluation mode.

        Raises:
            ConfigError: diffusers refuses the config.
            RuntimeError: the weights are not those of the config.
        """
        network = self._instantiate()
        network.load_state_dict(self.state)
        return network.eval()

    def skeleton(self) -> nn.Module:
        """The same without weights: names and shapes only, at no cost in memory.

        Raises:
            ConfigError: diffusers refuses the config.
        """
        with torch.device("meta"):
            return self._instantiate()

    def settings(self) -> dict[str, Any]:
        """The config with diffusers' defaults filled in.

        Raises:
            ConfigError: diffusers refuses the config.
        """
        config: Mapping[str, Any] = self.skeleton().config  # type: ignore[assignment]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}

    def _instantiate(self) -> nn.Module:
        part = "denoiser" if self.config.get("_class_name") == "UNet2DModel" else "autoencoder"
        network: nn.Module = build_component(
            part, self.config, CLASSES, in_channels=self.in_channels, out_channels=self.out_channels
        )
        return network


def require_channels(autoencoder: Network, denoiser: Network | None, spec: DataSpec) -> None:
    """Refuse networks of other channels than the data have.

    Args:
        denoiser: of latents and source, concatenated; None for an autoencoder alone.
        spec: of the data that the model was trained on.

    Raises:
        CheckpointError: listing what differs.
    """
    faults = []
    for direction, channels in (("takes", autoencoder.in_channels), ("gives", autoencoder.out_channels)):
        if channels != len(spec.target):
            faults.append(f"its autoencoder {direction} {channels} channels, the data have {spec.target_names}")
    if denoiser is not None:
        source = denoiser.in_channels - denoiser.out_channels
        names = [channel.name for channel in spec.source]
        if source != len(names):
            faults.append(f"its denoiser takes a source of {source} channels, the data have {len(names)}: {names}")
    if faults:
        raise CheckpointError(
            "the model does not fit the data section: "
            + "; ".join(faults)
            + "; give the config of the data that it was trained on"
        )
