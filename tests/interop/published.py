"""Small models in the published layout, with random weights, and what CompVis' attention computes."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ctp_ldm.interop import CompVisModel, Network
from ctp_ldm.networks import build_scheduler

SOURCES = 4
HEAD = 32
VQ: dict[str, Any] = {
    "_class_name": "VQModel",
    "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
    "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
    "layers_per_block": 1,
    "latent_channels": 3,
    "norm_num_groups": 32,
    "mid_block_add_attention": True,
    "scaling_factor": 1.0,
    "num_vq_embeddings": 16,
}
KL = {
    **{key: value for key, value in VQ.items() if key != "num_vq_embeddings"},
    "_class_name": "AutoencoderKL",
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}
UNET: dict[str, Any] = {
    "_class_name": "UNet2DModel",
    "block_out_channels": [32, 64],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "attention_head_dim": HEAD,
    "norm_num_groups": 32,
}
NOISE_SCHEDULE: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
}


def network(config: dict[str, Any], in_channels: int, out_channels: int, seed: int = 0) -> Network:
    """With random weights, none of them zero or one."""
    bare = Network(config, in_channels, out_channels)
    generator = torch.Generator().manual_seed(seed)
    names = bare.skeleton().state_dict()
    state = {name: torch.randn(tensor.shape, generator=generator) * 0.1 for name, tensor in names.items()}
    return Network(config, in_channels, out_channels, state)


def autoencoder(config: dict[str, Any] = VQ) -> Network:
    return network(config, 2, 2)


def model(config: dict[str, Any] = VQ, **changes: Any) -> CompVisModel:
    """Latent diffusion of two channels from four."""
    parts: dict[str, Any] = {
        "autoencoder": autoencoder(config),
        "denoiser": network(UNET, 3 + SOURCES, 3, seed=1),
        "mapper": torch.randn(SOURCES, SOURCES, 1, 1, generator=torch.Generator().manual_seed(2)),
        "alphas_cumprod": build_scheduler(NOISE_SCHEDULE, 2).alphas_cumprod,
    }
    return CompVisModel(**{**parts, **changes})


def legacy_attention(features: Tensor, state: dict[str, Tensor], place: str, heads: int) -> Tensor:
    """openaimodel's `AttentionBlock`, head by head.

    Args:
        features: (B, C, H, W).
        place: name of the block in `state`, with its dot.
    """
    flat = features.flatten(2)
    normal = F.group_norm(flat, 32, state[f"{place}norm.weight"], state[f"{place}norm.bias"], eps=1e-5)
    packed = F.conv1d(normal, state[f"{place}qkv.weight"], state[f"{place}qkv.bias"])
    width = features.shape[1] // heads
    mixed = []
    for head in range(heads):
        query, key, value = packed[:, 3 * width * head : 3 * width * (head + 1)].split(width, dim=1)
        attended = (query.transpose(1, 2) @ key / width**0.5).softmax(dim=2)
        mixed.append(value @ attended.transpose(1, 2))
    out = F.conv1d(torch.cat(mixed, dim=1), state[f"{place}proj_out.weight"], state[f"{place}proj_out.bias"])
    return (flat + out).view_as(features)


def image_attention(features: Tensor, state: dict[str, Tensor], place: str) -> Tensor:
    """The autoencoder's `AttnBlock`: one head, 1 × 1 convolutions."""

    def convolved(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"{place}{name}.weight"], state[f"{place}{name}.bias"])

    normal = F.group_norm(features, 32, state[f"{place}norm.weight"], state[f"{place}norm.bias"], eps=1e-6)
    query, key, value = (convolved(name, normal).flatten(2) for name in "qkv")
    attended = (query.transpose(1, 2) @ key / features.shape[1] ** 0.5).softmax(dim=2)
    return features + convolved("proj_out", (value @ attended.transpose(1, 2)).view_as(features))
