"""A model of this project as one of CompVis' latent diffusion, for `write_compvis`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ctp_ldm.interop.compvis import CompVisModel
from ctp_ldm.interop.fold import CONV_IN, standardise, unfold
from ctp_ldm.interop.naming import PREDICTIONS, SCALE
from ctp_ldm.interop.network import Network
from ctp_ldm.interop.schedule import ALPHAS
from ctp_ldm.networks import MEAN, build_scheduler, unshuffled
from ctp_ldm.networks.autoencoder import UNSHUFFLE
from ctp_ldm.networks.build import CLASS_KEY
from ctp_ldm.runs import KEY, CheckpointError
from ctp_ldm.spec import DataSpec

ORIGINAL = "compvis"
"""Under it an imported checkpoint keeps of its file what no stage needs (see `keep`); a trained one has no such key."""
PARAMETERIZATIONS = {kind: word for word, kind in PREDICTIONS.items()}
"""diffusers' prediction_type → the word for it in CompVis' configs."""
INSTEAD = "export it as a diffusers folder instead"


def keep(model: CompVisModel) -> dict[str, Any]:
    """What an imported checkpoint keeps for the way back, tensors and plain data.

    averaged: see `CompVisModel`.
    buffers: its buffers and ᾱ, whose last bits a schedule's config does not give.
    mapper, conv_in: what the denoiser's first convolution was folded of; absent where there was no mapper.
    """
    buffers = dict(model.buffers)
    if model.alphas_cumprod is not None:
        buffers[ALPHAS] = model.alphas_cumprod
    kept: dict[str, Any] = {"averaged": model.averaged, "buffers": {k: v.clone() for k, v in buffers.items()}}
    if model.denoiser is not None and model.mapper is not None:
        kept |= {"mapper": model.mapper.clone(), "conv_in": model.denoiser.state[CONV_IN].clone()}
    return kept


def compvis_model(checkpoint: Mapping[str, Any], name: str) -> CompVisModel:
    """A stage's checkpoint as a model in CompVis' layout, which computes the same.

    One that was imported and not trained gives the tensors of its file again (see `write_compvis`). Of others, the
    latents' mean and deviation become the scale factor where that says it all, and else part of the autoencoder (see
    `standardise`); the denoiser takes the reduced source itself, and an identity is written as its mapper.

    The objective's own networks (terms, discriminator) stay behind.

    Args:
        checkpoint: of an autoencoder or a latent model, from `read_checkpoint`.
        name: of it, for messages.

    Raises:
        CheckpointError: no such stage, or nothing that CompVis' code could sample: a condition that is not the source's
            mean, a pixel-unshuffle, a Brownian bridge, one-step models, zero terminal SNR, several scales of a
            codebook's latents. `write_compvis` refuses networks that it cannot build.
    """
    record, state = checkpoint[KEY], checkpoint["state_dict"]
    if "autoencoder" not in record:
        raise CheckpointError(
            f"{name} (stage {record.get('stage')!r}, version {record.get('version')}) does not say what its networks "
            "are; expected an autoencoder or a latent model, written by a version that does: train on from it with "
            "--init_from, and convert what that writes"
        )
    _require_their_ends(record, name)
    spec = DataSpec.from_plain(record["spec"], name)
    kept = checkpoint.get(ORIGINAL, {})
    buffers: dict[str, Tensor] = dict(kept.get("buffers", {}))
    channels = len(spec.target)
    autoencoder = Network(record["autoencoder"], channels, channels, _under("autoencoder.net.", state))
    common: dict[str, Any] = {
        "averaged": kept.get("averaged", False),
        "epoch": checkpoint.get("epoch", 0),
        "global_step": checkpoint.get("global_step", 0),
    }
    scale = float(buffers[SCALE]) if SCALE in buffers else 1.0
    if "denoiser" not in record:
        return CompVisModel(autoencoder, scale_factor=scale, buffers=buffers, **common)

    _require_sampled_from_noise(record, name)
    alphas = buffers.pop(ALPHAS) if ALPHAS in buffers else build_scheduler(record["scheduler"], 1).alphas_cumprod
    latents = record["autoencoder"]["latent_channels"]
    denoiser = Network(record["denoiser"], latents + len(spec.source), latents, _under("denoiser.", state))
    try:
        autoencoder, scale = _one_factor(autoencoder, state["latent_mean"], state["latent_std"], scale)
        before = unfold(denoiser, kept["mapper"], kept["conv_in"]) if "mapper" in kept else None
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
    return CompVisModel(
        autoencoder=autoencoder,
        denoiser=before or denoiser,
        mapper=kept["mapper"] if before else None,
        alphas_cumprod=alphas,
        prediction_type=record["scheduler"]["prediction_type"],
        scale_factor=scale,
        buffers=buffers,
        **common,
    )


def parameterization(checkpoint: Mapping[str, Any]) -> str:
    """What the denoiser puts out, in the word of CompVis' configs.

    "eps" is understood everywhere. "v" is that of Stable Diffusion 2's code; latent diffusion's own asserts "eps" or
    "x0". With "x0" only the sampler that visits all timesteps is right: their DDIM takes every output for noise.

    Args:
        checkpoint: of a latent model that `compvis_model` does not refuse.
    """
    return PARAMETERIZATIONS[checkpoint[KEY]["scheduler"]["prediction_type"]]


def compvis_settings(checkpoint: Mapping[str, Any], model: CompVisModel) -> dict[str, Any]:
    """What the config of CompVis' code has to say beside the sizes, because the file does not or is not asked.

    scale_factor: their code keeps it in the file only with scale_by_std.
    use_ema: false without averages in the file, which their sampler would replace by random weights.
    attn_type: of the autoencoder's ddconfig, where it has no attention at all.

    Args:
        checkpoint, model: what `compvis_model` got and gave.
    """
    settings: dict[str, Any] = {}
    if not model.autoencoder.config.get("mid_block_add_attention", True):
        settings["attn_type"] = "none"
    if model.denoiser is None or model.alphas_cumprod is None:
        return settings
    return settings | {
        "parameterization": parameterization(checkpoint),
        "timesteps": len(model.alphas_cumprod),
        "num_head_channels": model.denoiser.config["attention_head_dim"],
        "scale_factor": model.scale_factor,
        "use_ema": model.averaged,
    }


def _require_their_ends(record: Mapping[str, Any], name: str) -> None:
    """CompVis' code reduces the source by its mean, and its autoencoders take and give images pixel by pixel."""
    faults = []
    condition = record.get("condition") or MEAN
    if condition[CLASS_KEY] != MEAN[CLASS_KEY]:
        faults.append(
            f"its condition is {condition[CLASS_KEY]}; their layout has a place for the source's mean over each latent "
            "pixel only"
        )
    unshuffle = unshuffled(record["autoencoder"])
    if unshuffle > 1:
        faults.append(
            f"its autoencoder begins with a pixel-unshuffle (autoencoder.{UNSHUFFLE} is {unshuffle}), which theirs "
            "never does"
        )
    if faults:
        raise CheckpointError(f"{name} cannot be written in CompVis' layout: " + "; ".join(faults) + f"; {INSTEAD}")


def _require_sampled_from_noise(record: Mapping[str, Any], name: str) -> None:
    """CompVis' samplers start from random noise at a timestep short of the last, and divide by √ᾱ."""
    scheduler, noise = record["scheduler"], record["sampling"]["noise"]
    if scheduler["_class_name"] == "BrownianBridgeScheduler":
        raise CheckpointError(
            f"{name} is a Brownian bridge, which ends in the source's latents; CompVis' code only has diffusion, which "
            f"ends in noise; {INSTEAD}"
        )
    faults = []
    if noise != "random":
        faults.append(
            f"it is sampled from noise {noise!r}, as one-step models are; CompVis' samplers start from random noise"
        )
    if scheduler.get("rescale_betas_zero_snr") or not bool(build_scheduler(scheduler, 1).alphas_cumprod[-1] > 0):
        faults.append(
            "its schedule ends in pure noise (rescale_betas_zero_snr), where CompVis' code divides by √ᾱ = 0; its "
            "samplers also begin earlier, at a timestep that this model has never seen as pure noise"
        )
    if faults:
        raise CheckpointError(f"{name} cannot be sampled by CompVis' code: " + "; ".join(faults) + f"; {INSTEAD}")


def _one_factor(autoencoder: Network, mean: Tensor, deviation: Tensor, scale: float) -> tuple[Network, float]:
    """An autoencoder whose latents need but one factor to be standardised, and that factor.

    Args:
        mean, deviation: (1, Cz, 1, 1).
        scale: the file's that the model was imported from; its reciprocal's reciprocal may differ in the last bit.
    """
    mean, deviation = mean.flatten(), deviation.flatten()
    if not bool((mean.isfinite() & deviation.isfinite()).all()):
        raise CheckpointError(
            f"the latents' mean is {mean.tolist()} and their deviation {deviation.tolist()}; expected finite numbers, "
            "which training sets: train it first"
        )
    if bool(mean.any()) or bool((deviation != deviation[0]).any()):
        return standardise(autoencoder, mean, deviation), 1.0
    kept = torch.equal(torch.ones_like(deviation) / scale, deviation)
    return autoencoder, scale if kept else 1 / deviation[0].item()


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
