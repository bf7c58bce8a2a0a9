"""The way back into the layout of CompVis' latent diffusion."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctp_ldm.interop.autoencoder import autoencoder_architecture, autoencoder_links
from ctp_ldm.interop.compvis import CompVisModel, few
from ctp_ldm.interop.denoiser import denoiser_architecture, denoiser_links
from ctp_ldm.interop.fold import identity_mapper
from ctp_ldm.interop.links import to_compvis
from ctp_ldm.interop.naming import AUTOENCODER, COUNTERS, DECAY, DENOISER, MAPPER, SCALE, UPDATES, averages
from ctp_ldm.interop.network import Network
from ctp_ldm.interop.schedule import ALPHAS, BUFFERS, schedule_buffers
from ctp_ldm.runs import AtomicCheckpointIO, CheckpointError

NO_FUNCTION = {"sample_size", "dropout", "scaling_factor", "force_upcast"}
"""Settings that do not change what a trained network computes."""


def write_compvis(model: CompVisModel, path: str | Path) -> None:
    """Write the layout that `read_compvis` reads; a model that was read and not changed gives the same tensors again.

    Two things of the file that a model was read from are not kept: what the autoencoder's training left there
    (`loss.*`), and live weights of which there is an average, in whose place the average is written.

    A denoiser without mapper, such as a folded one that was trained further, gets an identity before it, because the
    layout has no other place for it.

    Their code has 32 groups in every normalisation, and takes the head width from a config: give it the same.

    Raises:
        CheckpointError: a network that their code cannot build, or no place to write.
        ConfigError: a network that diffusers cannot build.
    """
    prefix = AUTOENCODER if model.denoiser else ""
    weights = _exported(prefix, model.autoencoder)
    if model.denoiser is not None:
        weights |= _exported(DENOISER, model.denoiser)
    state = _schedule(model) | weights
    if model.denoiser is not None and model.denoiser.in_channels != model.denoiser.out_channels:
        channels = model.denoiser.in_channels - model.denoiser.out_channels
        state[MAPPER] = identity_mapper(channels) if model.mapper is None else model.mapper
    if model.averaged:
        main = DENOISER if model.denoiser else prefix
        live = averages((name for name in weights if name.startswith(main)), main)
        state[DECAY] = model.buffers.get(DECAY, torch.tensor(0.9999))
        state[UPDATES] = model.buffers.get(UPDATES, torch.tensor(0, dtype=torch.int32))
        state |= {average: weights[name] for name, average in live.items()}
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    record = {"epoch": model.epoch, "global_step": model.global_step}
    AtomicCheckpointIO().save_checkpoint({"state_dict": contents, **record}, path)


def _schedule(model: CompVisModel) -> dict[str, Tensor]:
    state = {name: tensor for name, tensor in model.buffers.items() if name not in COUNTERS}
    if model.alphas_cumprod is not None:
        if not state.keys() >= set(BUFFERS) - {ALPHAS}:
            state |= schedule_buffers(model.alphas_cumprod.cpu())
        state[ALPHAS] = model.alphas_cumprod
    found = float(state[SCALE]) if SCALE in state else 1.0
    if found != model.scale_factor:
        state[SCALE] = torch.tensor(model.scale_factor)
    return state


def _exported(prefix: str, network: Network) -> dict[str, Tensor]:
    """A network's weights in their layout, once it is certain that reading them again gives the same network."""
    name = network.config["_class_name"]
    is_denoiser = name == "UNet2DModel"
    links = denoiser_links(network) if is_denoiser else autoencoder_links(network)
    stray = sorted({part for link in links for part in link.ours} ^ set(network.state))
    if stray:
        raise CheckpointError(f"{name} has other weights than CompVis' network, or lacks some: {few(stray)}")
    state = to_compvis(links, network.state)
    mine = network.settings()
    groups = mine["norm_num_groups"]
    if is_denoiser:
        again = denoiser_architecture(state, network.out_channels, mine["attention_head_dim"], groups)
    else:
        again = autoencoder_architecture(state, 1.0, groups)
    _require_same(name, mine, again.settings())
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def _require_same(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Settings that the weights do not tell must be those that CompVis' network always has."""
    faults = [
        f"{key} is {value}, in CompVis' network {theirs[key]}"
        for key, value in mine.items()
        if value != theirs[key] and key not in NO_FUNCTION and not key.startswith("_")
    ]
    if faults:
        raise CheckpointError(f"{name} cannot be written in CompVis' layout: " + "; ".join(faults))
