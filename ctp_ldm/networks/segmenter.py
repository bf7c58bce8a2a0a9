"""A lesion segmenter: one of MONAI's networks, as training and evaluation see it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctp_ldm.networks.build import MONAI_NETWORKS, ConfigError, build_component

NO_LESION = -12.0
"""Logit outside the brain: probability 6e-6."""


class LesionSegmenter(nn.Module):
    """Images (B, C, H, W) in [−1, 1] → logits of lesion (B, 1, H, W).

    What lies outside the brain is hidden from it, so that it cannot tell a real image from a synthetic one there, and
    no lesion is found there.

    Args:
        network: `_class_name` of a class of `monai.networks.nets`, and its arguments but those that the data decide.
        backgrounds: of each of the C channels, physical 0 in [−1, 1].
        feature_layer: module of the network whose output `with_features` gives.

    Raises:
        ConfigError: the config is wrong, or the network has no such module.
    """

    background: Tensor

    def __init__(self, network: Mapping[str, Any], backgrounds: Sequence[float], feature_layer: str | None) -> None:
        super().__init__()
        self.net: nn.Module = build_component(
            "network", network, MONAI_NETWORKS, spatial_dims=2, in_channels=len(backgrounds), out_channels=1
        )
        known = [name for name, _ in self.net.named_modules() if name]
        if feature_layer is not None and feature_layer not in known:
            raise ConfigError(f"feature_layer is {feature_layer!r}; expected one of {', '.join(known)}")
        self.feature_layer = feature_layer
        self.register_buffer("background", torch.tensor(backgrounds).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor, brain: Tensor) -> Tensor:
        """Logits (B, 1, H, W), float32.

        Args:
            images: (B, C, H, W).
            brain: (B, 1, H, W) in {0, 1}.
        """
        logits: Tensor = self.net(torch.where(brain > 0, images, self.background))
        return logits.float().masked_fill(brain == 0, NO_LESION)

    def with_features(self, images: Tensor, brain: Tensor) -> tuple[Tensor, Tensor | None]:
        """The logits, and the output of `feature_layer` averaged over each slice, (B, F); None without one."""
        if self.feature_layer is None:
            return self(images, brain), None
        seen: list[Tensor] = []
        hook = self.net.get_submodule(self.feature_layer).register_forward_hook(lambda *given: seen.append(given[2]))
        try:
            logits = self(images, brain)
        finally:
            hook.remove()
        return logits, seen[-1].float().mean(dim=(2, 3))
