"""Distance of the decoded and the real image as a frozen network sees them."""

from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctp_ldm.losses.outside import with_real_outside
from ctp_ldm.losses.pretrained import load_pretrained
from ctp_ldm.losses.term import PixelTerm
from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample
from ctp_ldm.spec import DataSpec


class FeatureDistance(PixelTerm):
    """LPIPS without learned weights (Zhang et al. 2018, eq. 1), with a network of one's own.

    Features (B, F, h, w) of each layer are brought to unit length over F; the squared length of their difference is
    averaged over positions, then over layers. The network sees all targets together, in [−1, 1].

    Args:
        weight: factor in the total loss.
        network: `_class_name`, a class of `monai.networks.nets`, and its arguments, for as many channels as targets.
        weights: its safetensors or torch file, see `load_pretrained`.
        layers: names of submodules whose output is compared, the last one where a submodule is called several times.
        prefix: of the network's keys in the file.
        name: in logs.
        timesteps: see `PixelTerm`.

    Raises:
        ConfigError: of the network or its file, or a layer that it does not have.
    """

    def __init__(
        self,
        weight: float,
        network: dict[str, Any],
        weights: str,
        layers: list[str],
        prefix: str = "",
        name: str = "features",
        timesteps: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(weight, name, timesteps)
        self.network = load_pretrained(f"{name}.network", network, Path(weights), prefix)
        known = [layer for layer, _ in self.network.named_modules() if layer]
        unknown = [layer for layer in layers if layer not in known]
        if unknown or not layers:
            raise ConfigError(f"{name}.layers are {layers}; expected one or more of {', '.join(known)}")
        self.layers = layers

    def bind(self, spec: DataSpec) -> None:
        """Show the network an empty image.

        Raises:
            ConfigError: the network does not take these images, or a layer's output is no (B, F, h, w).
        """
        super().bind(spec)
        channels, names = len(spec.target), ", ".join(spec.target_names)
        try:
            with torch.no_grad():
                found = self._features(torch.zeros(1, channels, *spec.size))
        except Exception as error:  # torch and MONAI raise many kinds for inputs that do not fit
            raise ConfigError(
                f"{self.name}.network does not take images of {channels} channels ({names}) on {list(spec.size)} "
                f"pixels; expected a network that was trained on such images: {error}"
            ) from error
        kinds = {layer: _kind(found.get(layer)) for layer in self.layers}
        faults = [f"{self.name}.layers: {layer} gives {kind}" for layer, kind in kinds.items() if kind is not None]
        if faults:
            raise ConfigError("\n".join(faults) + "\nexpected layers that give one image of features (B, F, h, w)")

    def forward(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
        found = self._features(with_real_outside(decoded, target, sample))
        with torch.no_grad():
            wanted = self._features(target)
        distances = [(_unit(found[k]) - _unit(wanted[k])).square().sum(dim=1).mean() for k in self.layers]
        return torch.stack(distances).mean()

    def train(self, mode: bool = True) -> Self:
        """The frozen network stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def _features(self, images: Tensor) -> dict[str, Any]:
        """Layer → its output. Hooks live no longer than the pass, because they would not survive a copy of the term."""
        found: dict[str, Any] = {}
        hooks = [
            self.network.get_submodule(layer).register_forward_hook(partial(_keep, found, layer))
            for layer in self.layers
        ]
        try:
            self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        return found


def _keep(found: dict[str, Any], layer: str, module: nn.Module, inputs: Any, output: Any) -> None:
    # A copy: what follows may write into the output, as in-place activations and residual sums do.
    found[layer] = output.clone() if isinstance(output, Tensor) else output


def _unit(features: Tensor) -> Tensor:
    # Where all features are 0, as may be behind a ReLU, a length has no gradient; above the bound it has.
    return F.normalize(features.float(), dim=1, eps=1e-5)


def _kind(output: Any) -> str | None:
    """What is wrong with a layer's output, if anything."""
    if output is None:
        return "nothing: the network does not call it"
    if not isinstance(output, Tensor):
        return f"a {type(output).__name__}"
    return None if output.ndim == 4 else f"a tensor of shape {tuple(output.shape)}"
