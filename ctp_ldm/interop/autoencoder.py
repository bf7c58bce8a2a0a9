"""The autoencoder of CompVis' latent diffusion as diffusers' `VQModel` or `AutoencoderKL`.

Names there are those of taming-transformers' `Encoder` and `Decoder`; their levels count from the full resolution in
both, while diffusers counts the decoder's from the coarsest. Attention has one head.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ctp_ldm.interop.links import Link, existing, plain, pointwise
from ctp_ldm.interop.network import Network
from ctp_ldm.interop.sizes import agreed, count, has
from ctp_ldm.runs import CheckpointError


def autoencoder_architecture(state: Mapping[str, Tensor], scaling_factor: float, norm_groups: int) -> Network:
    """What the weights say of their network; what is missing or wrong among them shows when the two are compared.

    Args:
        state: weights without prefix; others among them do not matter.
        scaling_factor: of the latents, which diffusers keeps in the config.
        norm_groups: which no weight tells.

    Raises:
        CheckpointError: hardly any weight is there.
    """
    levels = max(count(state, r"encoder\.down\.(\d+)\."), count(state, r"decoder\.up\.(\d+)\."))
    if levels == 0:
        raise CheckpointError("the autoencoder is missing: no weight is called encoder.down.* or decoder.up.*")
    convolution = r"\.block\.\d+\.conv[12]\.(weight|bias)"
    latents = agreed(
        state,
        (r"decoder\.conv_in\.weight", 1),
        (r"post_quant_conv\.(weight|bias)", 0),
        (r"post_quant_conv\.weight", 1),
        default=1,
    )
    # KL's encoder gives a mean and a variance for each latent channel.
    moments = agreed(
        state, (r"encoder\.conv_out\.(weight|bias)", 0), (r"quant_conv\.(weight|bias)", 0), default=latents
    )
    is_kl = moments == 2 * latents and not has(state, r"quantize\.")
    config: dict[str, Any] = {
        "_class_name": "AutoencoderKL" if is_kl else "VQModel",
        "block_out_channels": [
            agreed(state, (rf"(encoder\.down|decoder\.up)\.{level}{convolution}", 0), default=norm_groups)
            for level in range(levels)
        ],
        "down_block_types": [
            "AttnDownEncoderBlock2D" if has(state, rf"encoder\.down\.{level}\.attn\.") else "DownEncoderBlock2D"
            for level in range(levels)
        ],
        "up_block_types": [
            "AttnUpDecoderBlock2D" if has(state, rf"decoder\.up\.{level}\.attn\.") else "UpDecoderBlock2D"
            for level in reversed(range(levels))
        ],
        "layers_per_block": max(count(state, r"encoder\.down\.\d+\.block\.(\d+)\.conv1\."), 1),
        "latent_channels": latents,
        "norm_num_groups": norm_groups,
        "mid_block_add_attention": has(state, r"(encoder|decoder)\.mid\.attn_1\."),
        "scaling_factor": scaling_factor,
    }
    if not is_kl:
        config["num_vq_embeddings"] = agreed(state, (r"quantize\.embedding\.weight", 0), default=1)
    return Network(
        config,
        in_channels=agreed(state, (r"encoder\.conv_in\.weight", 1), default=1),
        out_channels=agreed(state, (r"decoder\.conv_out\.(weight|bias)", 0), default=1),
    )


def autoencoder_links(network: Network) -> list[Link]:
    """Every weight of the network that their layout has."""
    settings = network.settings()
    levels, layers = len(settings["block_out_channels"]), settings["layers_per_block"]
    links = [Link("quantize.embedding.weight", ("quantize.embedding.weight",))]
    links += plain("quant_conv", "quant_conv") + plain("post_quant_conv", "post_quant_conv")
    for part in ("encoder", "decoder"):
        links += plain(f"{part}.conv_in", f"{part}.conv_in") + plain(f"{part}.conv_out", f"{part}.conv_out")
        links += plain(f"{part}.norm_out", f"{part}.conv_norm_out")
        links += _attention(f"{part}.mid.attn_1", f"{part}.mid_block.attentions.0")
        for layer in range(2):
            links += _residual(f"{part}.mid.block_{layer + 1}", f"{part}.mid_block.resnets.{layer}")
    for level in range(levels):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        links += plain(f"encoder.down.{level}.downsample.conv", f"{down}.downsamplers.0.conv")
        links += plain(f"decoder.up.{level}.upsample.conv", f"{up}.upsamplers.0.conv")
        for theirs, ours, blocks in (
            (f"encoder.down.{level}", down, layers),
            (f"decoder.up.{level}", up, layers + 1),
        ):
            for layer in range(blocks):
                links += _residual(f"{theirs}.block.{layer}", f"{ours}.resnets.{layer}")
                links += _attention(f"{theirs}.attn.{layer}", f"{ours}.attentions.{layer}")
    return existing(links, network.skeleton().state_dict())


def _residual(theirs: str, ours: str) -> list[Link]:
    links: list[Link] = []
    for layer in ("norm1", "conv1", "norm2", "conv2"):
        links += plain(f"{theirs}.{layer}", f"{ours}.{layer}")
    return links + plain(f"{theirs}.nin_shortcut", f"{ours}.conv_shortcut")


def _attention(theirs: str, ours: str) -> list[Link]:
    links = plain(f"{theirs}.norm", f"{ours}.group_norm")
    for layer, name in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        links += pointwise(f"{theirs}.{layer}", f"{ours}.{name}", axes=2)
    return links
