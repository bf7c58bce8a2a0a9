"""The U-Net of CompVis' `openaimodel` as diffusers' `UNet2DModel`.

There the network is a flat list of blocks. Level after level, `input_blocks` holds the level's residual blocks, each
with attention behind it where the level has any, and a block with the downsampling; block 0 is the first convolution.
`output_blocks` runs from the coarsest level up with one residual block more in each, and the upsampling inside the
level's last block. Skip connections, the order of cosine and sine in the time embedding and its frequencies are
diffusers' defaults.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ctp_ldm.interop.links import Link, existing, packed_heads, plain, pointwise
from ctp_ldm.interop.network import Network
from ctp_ldm.interop.sizes import agreed, count, has
from ctp_ldm.runs import CheckpointError


def denoiser_architecture(
    state: Mapping[str, Tensor], latent_channels: int, head_width: int, norm_groups: int
) -> Network:
    """What the weights say of their network; what is missing or wrong among them shows when the two are compared.

    Args:
        state: weights without prefix.
        latent_channels: of the autoencoder, which the network's output must have.
        head_width, norm_groups: which no weight tells.

    Raises:
        CheckpointError: a variant of the network that `UNet2DModel` is not.
    """
    _require_plain_blocks(state)
    blocks = count(state, r"input_blocks\.(\d+)\.")
    levels = 1 + sum(has(state, rf"input_blocks\.{block}\.0\.op\.") for block in range(blocks))
    layers = max(blocks // levels - 1, 1)
    widths, down, up = [], [], []
    for level in range(levels):
        inside = _either(range(level * (layers + 1) + 1, (level + 1) * (layers + 1)))
        convolution = rf"input_blocks\.{inside}\.0\.(in_layers\.2|out_layers\.3)\.(weight|bias)"
        widths.append(agreed(state, (convolution, 0), default=norm_groups))
        attends = has(state, rf"input_blocks\.{inside}\.1\.qkv\.")
        down.append("AttnDownBlock2D" if attends else "DownBlock2D")
        inside = _either(range(level * (layers + 1), (level + 1) * (layers + 1)))
        attends = has(state, rf"output_blocks\.{inside}\.1\.qkv\.")
        up.append("AttnUpBlock2D" if attends else "UpBlock2D")
    config: dict[str, Any] = {
        "_class_name": "UNet2DModel",
        "block_out_channels": widths,
        "down_block_types": down,
        "up_block_types": up,
        "layers_per_block": layers,
        "attention_head_dim": head_width,
        "norm_num_groups": norm_groups,
    }
    attending = [w for w, kind in zip(widths, down, strict=True) if kind == "AttnDownBlock2D"] + widths[-1:]
    if any(width % head_width for width in attending):
        raise CheckpointError(
            f"the denoiser's attention has {sorted(set(attending))} channels, which heads of width {head_width} do not "
            "divide; give the head width that it was trained with (num_head_channels in its config)"
        )
    return Network(
        config,
        in_channels=agreed(state, (r"input_blocks\.0\.0\.weight", 1), default=latent_channels),
        out_channels=latent_channels,
    )


def denoiser_links(network: Network) -> list[Link]:
    """Every weight of the network that their layout has.

    Raises:
        CheckpointError: attention whose heads have no common width.
    """
    settings = network.settings()
    widths, layers, head_width = (
        settings[key] for key in ("block_out_channels", "layers_per_block", "attention_head_dim")
    )
    if head_width is None:
        raise CheckpointError(
            "the denoiser's attention_head_dim is null; heads have the same width on all levels there"
        )
    links = plain("time_embed.0", "time_embedding.linear_1") + plain("time_embed.2", "time_embedding.linear_2")
    links += plain("input_blocks.0.0", "conv_in") + plain("out.0", "conv_norm_out") + plain("out.2", "conv_out")
    links += _residual("middle_block.0", "mid_block.resnets.0") + _residual("middle_block.2", "mid_block.resnets.1")
    links += _attention("middle_block.1", "mid_block.attentions.0", widths[-1] // head_width)
    for level, width in enumerate(widths):
        heads, ours = width // head_width, f"down_blocks.{level}"
        first = level * (layers + 1) + 1
        for layer in range(layers):
            links += _residual(f"input_blocks.{first + layer}.0", f"{ours}.resnets.{layer}")
            links += _attention(f"input_blocks.{first + layer}.1", f"{ours}.attentions.{layer}", heads)
        links += plain(f"input_blocks.{first + layers}.0.op", f"{ours}.downsamplers.0.conv")
    for step, width in enumerate(reversed(widths)):
        heads, ours = width // head_width, f"up_blocks.{step}"
        first = step * (layers + 1)
        for layer in range(layers + 1):
            links += _residual(f"output_blocks.{first + layer}.0", f"{ours}.resnets.{layer}")
            links += _attention(f"output_blocks.{first + layer}.1", f"{ours}.attentions.{layer}", heads)
        place = 2 if settings["up_block_types"][step] == "AttnUpBlock2D" else 1
        if step < len(widths) - 1:
            links += plain(f"output_blocks.{first + layers}.{place}.conv", f"{ours}.upsamplers.0.conv")
    return existing(links, network.skeleton().state_dict())


def _residual(theirs: str, ours: str) -> list[Link]:
    links: list[Link] = []
    for layer, name in (
        ("in_layers.0", "norm1"),
        ("in_layers.2", "conv1"),
        ("emb_layers.1", "time_emb_proj"),
        ("out_layers.0", "norm2"),
        ("out_layers.3", "conv2"),
        ("skip_connection", "conv_shortcut"),
    ):
        links += plain(f"{theirs}.{layer}", f"{ours}.{name}")
    return links


def _attention(theirs: str, ours: str, heads: int) -> list[Link]:
    links = plain(f"{theirs}.norm", f"{ours}.group_norm")
    links += packed_heads(f"{theirs}.qkv", [f"{ours}.{name}" for name in ("to_q", "to_k", "to_v")], heads)
    return links + pointwise(f"{theirs}.proj_out", f"{ours}.to_out.0", axes=1)


def _require_plain_blocks(state: Mapping[str, Tensor]) -> None:
    if any(".transformer_blocks." in name for name in state):
        raise CheckpointError(
            "the denoiser has spatial transformers, so its condition comes in by cross-attention; only denoisers whose "
            "condition is concatenated to the noisy latents are supported"
        )
    if has(state, r"label_emb\."):
        raise CheckpointError("the denoiser is conditioned on classes (label_emb); that is not supported")
    if has(state, r"output_blocks\.\d+\.[12]\.in_layers\."):
        raise CheckpointError(
            "the denoiser resamples in its residual blocks (resblock_updown); only resampling by a convolution "
            "is supported"
        )
    embedded = agreed(state, (r"middle_block\.0\.emb_layers\.1\.(weight|bias)", 0), default=1)
    width = agreed(state, (r"middle_block\.0\.out_layers\.3\.(weight|bias)", 0), default=1)
    if embedded == 2 * width:
        raise CheckpointError(
            "the time embedding scales and shifts the denoiser's normalised features (use_scale_shift_norm); only "
            "denoisers that add it are supported"
        )


def _either(numbers: range) -> str:
    return "(" + "|".join(map(str, numbers)) + ")"
