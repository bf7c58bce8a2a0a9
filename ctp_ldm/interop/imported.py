"""A foreign diffusers folder as what the stages of this project start from."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ctp_ldm.interop.foreign import DiffusersModel
from ctp_ldm.interop.network import require_channels
from ctp_ldm.modules.checkpoints import identity
from ctp_ldm.networks import plain_config
from ctp_ldm.runs import KEY
from ctp_ldm.spec import DataSpec

SAMPLING: dict[str, Any] = {"steps": 10, "noise": "random", "seed": 0}
"""A folder does not say how many steps; these are the default of `LatentDiffusionModule`."""


def diffusers_checkpoints(model: DiffusersModel, spec: DataSpec) -> dict[str, dict[str, Any]]:
    """Stage → checkpoint that `init_from` takes: autoencoder, and diffusion where the model has a denoiser.

    Args:
        spec: of the data that the model was trained on, as the next stage will see them.

    Raises:
        CheckpointError: the model has other channels than the data.
    """
    require_channels(model.autoencoder, model.denoiser, spec)
    weights = {f"autoencoder.net.{name}": value for name, value in model.autoencoder.state.items()}
    parts: dict[str, Any] = {"autoencoder": plain_config(model.autoencoder.skeleton())}
    found = {"autoencoder": _checkpoint("autoencoder", spec, parts, weights)}
    if model.denoiser is not None and model.scale is not None:
        weights = weights | {f"denoiser.{name}": value for name, value in model.denoiser.state.items()}
        weights |= {
            "latent_mean": model.scale.mean.view(1, -1, 1, 1),
            "latent_std": model.scale.std.view(1, -1, 1, 1),
        }
        parts = {**parts, "denoiser": plain_config(model.denoiser.skeleton()), "scheduler": model.scheduler}
        found["diffusion"] = _checkpoint("diffusion", spec, {**parts, "sampling": dict(SAMPLING)}, weights)
    return found


def _checkpoint(stage: str, spec: DataSpec, parts: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"state_dict": dict(weights), KEY: identity(stage, spec, parts)}
