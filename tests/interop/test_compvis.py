"""Reading and writing the published layout with small random models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ctp_ldm.interop import CompVisModel, Network, fold, read_compvis, write_compvis
from ctp_ldm.interop.denoiser import denoiser_architecture, denoiser_links
from ctp_ldm.interop.fold import identity_mapper
from ctp_ldm.interop.links import to_compvis
from ctp_ldm.interop.schedule import BUFFERS
from ctp_ldm.networks import ConfigError, ImageAutoencoder, build_scheduler
from ctp_ldm.runs import CheckpointError

from . import published
from .published import HEAD, KL, NOISE_SCHEDULE, UNET, VQ, image_attention, legacy_attention, model

BOTH = pytest.mark.parametrize("config", [VQ, KL], ids=["VQ", "KL"])


def tensors(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def assert_same_network(one: Network | None, other: Network | None) -> None:
    assert one is not None
    assert other is not None
    assert (one.config, one.in_channels, one.out_channels) == (other.config, other.in_channels, other.out_channels)
    assert_same_tensors(one.state, other.state)


def assert_same_tensors(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name


@BOTH
def test_there_and_back(config: dict[str, Any], tmp_path: Path) -> None:
    wrote = model(config, epoch=3, global_step=70)
    write_compvis(wrote, tmp_path / "a.ckpt")
    read = read_compvis(tmp_path / "a.ckpt")
    assert_same_network(read.autoencoder, wrote.autoencoder)
    assert_same_network(read.denoiser, wrote.denoiser)
    assert torch.equal(read.mapper, wrote.mapper)  # type: ignore[arg-type]
    assert (read.epoch, read.global_step, read.averaged) == (3, 70, False)
    write_compvis(read, tmp_path / "b.ckpt")
    assert_same_tensors(tensors(tmp_path / "a.ckpt"), tensors(tmp_path / "b.ckpt"))


@BOTH
def test_an_autoencoder_alone_has_no_prefix_and_its_loss_is_ignored(config: dict[str, Any], tmp_path: Path) -> None:
    wrote = CompVisModel(published.autoencoder(config))
    write_compvis(wrote, tmp_path / "bare.ckpt")
    state = tensors(tmp_path / "bare.ckpt")
    assert "encoder.conv_in.weight" in state
    loss = {
        "loss.discriminator.main.0.weight": torch.ones(2),
        "loss.perceptual_loss.lin0.model.1.weight": torch.ones(1),
    }
    torch.save({"state_dict": state | loss}, tmp_path / "trained.ckpt")
    read = read_compvis(tmp_path / "trained.ckpt")
    assert_same_network(read.autoencoder, wrote.autoencoder)
    assert (read.denoiser, read.mapper, read.alphas_cumprod) == (None, None, None)
    assert sorted(read.ignored) == sorted(loss)
    with pytest.raises(CheckpointError, match="autoencoder alone"):
        read.folded()


def test_configs_are_those_that_the_stages_take(checkpoint: Path) -> None:
    read = read_compvis(checkpoint)
    autoencoder = ImageAutoencoder(read.autoencoder.config, channels=read.autoencoder.out_channels)
    autoencoder.net.load_state_dict(read.autoencoder.state)
    assert autoencoder.encode(torch.zeros(1, 2, 8, 16)).shape == (1, 3, 4, 8)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_precision_is_kept(half: torch.dtype, checkpoint: Path, tmp_path: Path) -> None:
    state = {name: tensor.to(half) for name, tensor in tensors(checkpoint).items()}
    torch.save(state, tmp_path / "half.ckpt")  # a bare dictionary is a checkpoint too
    write_compvis(read_compvis(tmp_path / "half.ckpt"), tmp_path / "again.ckpt")
    assert_same_tensors(tensors(tmp_path / "again.ckpt"), state)


def test_the_full_size_network_is_recognised() -> None:
    full = Network(
        UNET
        | {
            "block_out_channels": [224, 896, 1792],
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        },
        in_channels=18,
        out_channels=3,
    )
    state = to_compvis(denoiser_links(full), full.skeleton().state_dict())
    assert sum(tensor.numel() for tensor in state.values()) == pytest.approx(739.385e6, abs=500)
    assert denoiser_architecture(state, 3, HEAD, 32) == full


# ---------------------------------------------------------------------------------------------------------- attention


@torch.no_grad()
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("input_blocks.4.1.", "down_blocks.1.attentions.0"),
        ("middle_block.1.", "mid_block.attentions.0"),
        ("output_blocks.2.1.", "up_blocks.0.attentions.2"),
    ],
)
def test_the_denoisers_attention_is_the_published_one(theirs: str, ours: str, checkpoint: Path) -> None:
    read = read_compvis(checkpoint)
    assert read.denoiser is not None
    features = torch.randn(2, 64, 3, 5)
    expected = legacy_attention(features, tensors(checkpoint), f"model.diffusion_model.{theirs}", heads=64 // HEAD)
    found = read.denoiser.build().get_submodule(ours)(features)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    one_head = read_compvis(checkpoint, head_width=64)
    assert one_head.denoiser is not None
    assert not torch.allclose(one_head.denoiser.build().get_submodule(ours)(features), expected, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("encoder.down.1.attn.0.", "encoder.down_blocks.1.attentions.0"),
        ("encoder.mid.attn_1.", "encoder.mid_block.attentions.0"),
        ("decoder.mid.attn_1.", "decoder.mid_block.attentions.0"),
        ("decoder.up.1.attn.1.", "decoder.up_blocks.0.attentions.1"),
    ],
)
def test_the_autoencoders_attention_is_the_published_one(theirs: str, ours: str, checkpoint: Path) -> None:
    features = torch.randn(2, 64, 3, 5)
    expected = image_attention(features, tensors(checkpoint), f"first_stage_model.{theirs}")
    found = read_compvis(checkpoint).autoencoder.build().get_submodule(ours)(features)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- mapper


@torch.no_grad()
def test_folding_is_exact_up_to_the_border(checkpoint: Path) -> None:
    read = read_compvis(checkpoint)
    assert read.denoiser is not None
    assert read.mapper is not None
    latents, source = torch.randn(1, 3, 4, 8), torch.randn(1, published.SOURCES, 4, 8)
    mapped = torch.nn.functional.conv2d(source, read.mapper)
    expected = read.denoiser.build().conv_in(torch.cat([latents, mapped], dim=1))
    folded = read.folded()
    torch.testing.assert_close(folded.build().conv_in(torch.cat([latents, source], dim=1)), expected)
    again = fold(folded, identity_mapper(published.SOURCES))
    assert_same_network(again, folded)


def test_a_mapper_may_change_the_number_of_channels(tmp_path: Path) -> None:
    write_compvis(model(mapper=torch.randn(published.SOURCES, 6, 1, 1)), tmp_path / "a.ckpt")
    assert read_compvis(tmp_path / "a.ckpt").folded().in_channels == 3 + 6


def test_a_folded_denoiser_goes_back_with_the_identity_before_it(checkpoint: Path, tmp_path: Path) -> None:
    read = read_compvis(checkpoint)
    write_compvis(replace(read, denoiser=read.folded(), mapper=None), tmp_path / "trained.ckpt")
    again = read_compvis(tmp_path / "trained.ckpt")
    assert_same_network(again.folded(), read.folded())
    assert torch.equal(again.mapper, identity_mapper(published.SOURCES))  # type: ignore[arg-type]


def test_without_a_condition_there_is_no_mapper(tmp_path: Path) -> None:
    write_compvis(model(denoiser=published.network(UNET, 3, 3), mapper=None), tmp_path / "a.ckpt")
    read = read_compvis(tmp_path / "a.ckpt")
    assert read.mapper is None
    assert_same_network(read.folded(), read.denoiser)


# ------------------------------------------------------------------------------------------------------ averages, rest


def with_averages(state: dict[str, Tensor], prefix: str, owner: str) -> dict[str, Tensor]:
    """What `LitEma` adds: each weight, here doubled, under its name in the averaged module without dots."""
    copies = {
        "model_ema." + (owner + name[len(prefix) :]).replace(".", ""): 2 * tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
    counters = {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(40, dtype=torch.int32)}
    return state | copies | counters


def test_averaged_weights_are_what_is_read(checkpoint: Path, tmp_path: Path) -> None:
    state = with_averages(tensors(checkpoint), "model.diffusion_model.", "diffusion_model.")
    torch.save({"state_dict": state}, tmp_path / "averaged.ckpt")
    live, read = read_compvis(checkpoint), read_compvis(tmp_path / "averaged.ckpt")
    assert read.averaged
    assert live.denoiser is not None
    assert read.denoiser is not None
    assert_same_tensors(read.denoiser.state, {name: 2 * tensor for name, tensor in live.denoiser.state.items()})
    assert_same_network(read.autoencoder, live.autoencoder)

    write_compvis(read, tmp_path / "again.ckpt")
    again = tensors(tmp_path / "again.ckpt")
    assert again.keys() == state.keys()
    assert_same_tensors(
        {name: tensor for name, tensor in again.items() if not name.startswith("model.")},
        {name: tensor for name, tensor in state.items() if not name.startswith("model.")},
    )
    assert_same_network(read_compvis(tmp_path / "again.ckpt").denoiser, read.denoiser)
    write_compvis(replace(read, averaged=False), tmp_path / "live.ckpt")
    assert not any(name.startswith("model_ema.") for name in tensors(tmp_path / "live.ckpt"))


def test_averages_of_an_autoencoder_alone(tmp_path: Path) -> None:
    wrote = CompVisModel(published.autoencoder())
    write_compvis(wrote, tmp_path / "a.ckpt")
    state = with_averages(tensors(tmp_path / "a.ckpt"), "", "")
    torch.save({"state_dict": state}, tmp_path / "b.ckpt")
    read = read_compvis(tmp_path / "b.ckpt")
    assert read.averaged
    assert_same_tensors(read.autoencoder.state, {k: 2 * v for k, v in wrote.autoencoder.state.items()})
    write_compvis(read, tmp_path / "c.ckpt")
    assert tensors(tmp_path / "c.ckpt").keys() == state.keys()


def test_scale_factor_goes_there_and_back(tmp_path: Path) -> None:
    write_compvis(model(scale_factor=0.18215), tmp_path / "a.ckpt")
    read = read_compvis(tmp_path / "a.ckpt")
    assert read.scale_factor == pytest.approx(0.18215)
    assert read.autoencoder.config["scaling_factor"] == read.scale_factor
    write_compvis(read, tmp_path / "b.ckpt")
    assert_same_tensors(tensors(tmp_path / "a.ckpt"), tensors(tmp_path / "b.ckpt"))


def test_the_schedules_buffers_are_all_written(checkpoint: Path) -> None:
    state, betas = tensors(checkpoint), build_scheduler(NOISE_SCHEDULE, 2).betas
    assert set(BUFFERS) <= state.keys()
    torch.testing.assert_close(state["betas"], betas, rtol=1e-3, atol=1e-7)
    noise = 1 - state["alphas_cumprod"].double()
    torch.testing.assert_close(state["sqrt_one_minus_alphas_cumprod"].double() ** 2, noise, rtol=1e-5, atol=0)
    assert state["posterior_log_variance_clipped"].isfinite().all()


# ---------------------------------------------------------------------------------------------- what cannot be written


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"freq_shift": 1}, "freq_shift is 1, in CompVis' network 0"),
        ({"flip_sin_to_cos": False}, "flip_sin_to_cos is False"),
        ({"attention_head_dim": None}, "attention_head_dim is null"),
        ({"downsample_type": "resnet"}, "downsample_type is resnet"),
        ({"add_attention": False}, "has other weights than CompVis' network, or lacks some|add_attention is False"),
    ],
)
def test_a_network_that_compvis_cannot_build_is_not_written(
    change: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    denoiser = published.network(UNET | change, 3 + published.SOURCES, 3)
    with pytest.raises(CheckpointError, match=complaint):
        write_compvis(model(denoiser=denoiser), tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_defaults_of_a_config_need_not_be_written_out(tmp_path: Path) -> None:
    short = {key: value for key, value in VQ.items() if key not in ("norm_num_groups", "scaling_factor")}
    wrote = model(short)
    write_compvis(wrote, tmp_path / "a.ckpt")
    assert_same_tensors(read_compvis(tmp_path / "a.ckpt").autoencoder.state, wrote.autoencoder.state)


def test_a_config_that_diffusers_refuses_is_not_written(tmp_path: Path) -> None:
    wrong = replace(published.autoencoder(), config=VQ | {"norm_num_groups": 48})
    with pytest.raises(ConfigError, match="autoencoder"):
        write_compvis(CompVisModel(wrong), tmp_path / "a.ckpt")
