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
from ctp_ldm.pipeline.layout import SCALE_SETTINGS
from ctp_ldm.runs import AtomicCheckpointIO, CheckpointError

NO_FUNCTION = {"sample_size", "dropout", "force_upcast", *SCALE_SETTINGS}
"""Settings that do not change what a trained network computes."""


def write_compvis(model: CompVisModel, path: str | Path, norm_groups: int = 32) -> None:
    """Write the layout that `read_compvis` reads; a model that was read and not changed gives the same tensors again.

    Two things of the file that a model was read from are not kept: what the autoencoder's training left there
    (`loss.*`), and live weights of which there is an average, in whose place the average is written.

    A denoiser without mapper, such as a folded one that was trained further, gets an identity before it, because the
    layout has no other place for it.

    The width of the attention's heads is no part of the layout: give their config the same (num_head_channels).

    Args:
        norm_groups: of every normalisation in the code that will read the file. CompVis' has 32 and no setting for it;
            the weights of other groups would load there and mean something else.

    Raises:
        CheckpointError: a network that their code cannot build, or no place to write.
        ConfigError: a network that diffusers cannot build.
    """
    prefix = AUTOENCODER if model.denoiser else ""
    weights = _exported(prefix, model.autoencoder, norm_groups)
    if model.denoiser is not None:
        weights |= _exported(DENOISER, model.denoiser, norm_groups)
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


def _exported(prefix: str, network: Network, norm_groups: int) -> dict[str, Tensor]:
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
    _require_same(name, mine, again.settings(), norm_groups)
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def _require_same(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], norm_groups: int) -> None:
    """Settings that the weights do not tell must be those that CompVis' network always has."""
    faults = [
        f"{key} is {value}, in CompVis' network {theirs[key]}"
        for key, value in mine.items()
        if value != theirs[key] and key not in NO_FUNCTION and not key.startswith("_")
    ]
    faults += _irregular(mine, norm_groups)
    if faults:
        raise CheckpointError(f"{name} cannot be written in CompVis' layout: " + "; ".join(faults))


def _irregular(mine: Mapping[str, Any], norm_groups: int) -> list[str]:
    """What the weights do tell, and the few settings of CompVis' networks cannot: they would not be built."""
    faults = []
    groups, widths = mine["norm_num_groups"], mine["block_out_channels"]
    if groups != norm_groups:
        faults.append(
            f"norm_num_groups is {groups}, in the code that will read it {norm_groups}; give norm_groups {groups} if "
            "that code was changed, else train with its number"
        )
    if any(width % widths[0] for width in widths):
        faults.append(f"block_out_channels is {widths}, in CompVis' network multiples of the first (channel_mult)")
    attends = ["Attn" in kind for kind in mine["down_block_types"]]
    if ["Attn" in kind for kind in mine["up_block_types"]] != attends[::-1]:
        faults.append(
            f"down_block_types is {mine['down_block_types']} and up_block_types {mine['up_block_types']}; in CompVis' "
            "network the same resolutions have attention on the way down and up"
        )
    if any(attends) and not mine.get("mid_block_add_attention", True):
        faults.append("mid_block_add_attention is False and levels have attention; CompVis' network has both or none")
    return faults
