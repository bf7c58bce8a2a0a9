"""An imported model as what the stages of this project start from."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ctp_ldm.interop.back import ORIGINAL, keep
from ctp_ldm.interop.compvis import CompVisModel
from ctp_ldm.interop.network import require_channels
from ctp_ldm.modules.checkpoints import identity
from ctp_ldm.networks import build_scheduler, plain_config
from ctp_ldm.spec import DataSpec

SCHEDULE: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    # Their DDIM visits timesteps 1, 1 + T / steps, …, and ends with the ᾱ of timestep 0.
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
}
SAMPLING: dict[str, Any] = {"steps": 2, "noise": "random", "seed": 0}
"""What is published is sampled with two steps of DDIM, as configs/published/ has it; nothing in a file says so."""
PUBLISHED_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}


def stage_checkpoints(model: CompVisModel, spec: DataSpec) -> dict[str, dict[str, Any]]:
    """Stage → checkpoint that `init_from` takes: autoencoder, and diffusion where the model has a denoiser.

    The mapper is folded into the denoiser. Latents are scaled as the model scaled them; nothing is estimated anew. Each
    checkpoint says of its networks, schedule and sampling what a module of `stage_config` says of its own, and keeps
    what `compvis_model` needs to give the file back.

    Args:
        spec: of the data that the model was trained on, as the next stage will see them.

    Raises:
        CheckpointError: the model has other channels than the data.
    """
    denoiser = model.folded() if model.denoiser is not None else None
    require_channels(model.autoencoder, denoiser, spec)
    weights = {f"autoencoder.net.{name}": value for name, value in model.autoencoder.state.items()}
    parts = {"autoencoder": plain_config(model.autoencoder.skeleton())}
    found = {"autoencoder": _checkpoint("autoencoder", spec, parts, weights, model)}
    if denoiser is None:
        found["autoencoder"][ORIGINAL] = keep(model)
    else:
        like = torch.ones(1, denoiser.out_channels, 1, 1)
        weights = weights | {f"denoiser.{name}": value for name, value in denoiser.state.items()}
        weights |= {"latent_mean": 0 * like, "latent_std": like / model.scale_factor}
        scheduler = build_scheduler(stage_config(model)["model"]["init_args"]["scheduler"], SAMPLING["steps"])
        parts |= {"denoiser": plain_config(denoiser.skeleton()), "scheduler": plain_config(scheduler)}
        parts["sampling"] = dict(SAMPLING)
        found["diffusion"] = _checkpoint("diffusion", spec, parts, weights, model) | {ORIGINAL: keep(model)}
    return found


def stage_config(model: CompVisModel) -> dict[str, Any]:
    """Networks and schedule as the `model` section of a stage's config has them."""
    arguments: dict[str, Any] = {"autoencoder": dict(model.autoencoder.config)}
    if model.denoiser is not None:
        assert model.alphas_cumprod is not None
        arguments |= {
            "denoiser": dict(model.folded().config),
            "scheduler": schedule_config(model.alphas_cumprod, model.prediction_type),
        }
    return {"model": {"init_args": arguments}}


def schedule_config(alphas_cumprod: Tensor, prediction_type: str = "epsilon") -> dict[str, Any]:
    """diffusers' config of a noise schedule: by name where it is the published one, else all its β.

    Args:
        prediction_type: what the denoiser puts out.
    """
    settings = {**SCHEDULE, "prediction_type": prediction_type, "num_train_timesteps": len(alphas_cumprod)}
    named = {**settings, **PUBLISHED_BETAS}
    if torch.allclose(build_scheduler(named, 1).alphas_cumprod, alphas_cumprod.float(), rtol=1e-4, atol=0):
        return named
    alphas = alphas_cumprod.double()
    before = torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
    return {**settings, "trained_betas": (1 - alphas / before).tolist()}


def _checkpoint(
    stage: str, spec: DataSpec, parts: Mapping[str, Any], weights: Mapping[str, Tensor], model: CompVisModel
) -> dict[str, Any]:
    return {
        "state_dict": {name: value.clone() for name, value in weights.items()},
        "epoch": model.epoch,
        "global_step": model.global_step,
        "pytorch-lightning_version": L.__version__,
        "ctp_ldm": identity(stage, spec, parts),
    }
