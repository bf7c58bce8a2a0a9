"""A diffusers network as plain data: what it is built from, and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DModel, VQModel
from torch import Tensor, nn

from ctp_ldm.networks import build_component

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
