"""The published system's own numbers, recomputed with diffusers' networks from its checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ctp_ldm.interop import CompVisModel, read_compvis, write_compvis
from ctp_ldm.networks import ForwardProcess, build_scheduler

from .published import NOISE_SCHEDULE

TOLERANCE = 1e-4


@pytest.fixture
def folder(shared_data: Path) -> Path:
    return shared_data / "lapt_parity"


@pytest.fixture
def model(folder: Path) -> CompVisModel:
    return read_compvis(folder / "diffusion.ckpt")


@pytest.fixture
def vectors(folder: Path) -> dict[str, Tensor]:
    with np.load(folder / "vectors.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < TOLERANCE


def test_sizes_follow_from_the_weights(model: CompVisModel, folder: Path) -> None:
    config = json.loads((folder / "expected.json").read_text())["config"]
    autoencoder, denoiser = model.autoencoder, model.denoiser
    assert denoiser is not None
    assert model.mapper is not None
    assert autoencoder.config["_class_name"] == "VQModel"
    assert autoencoder.config["block_out_channels"] == [config["ch"] * m for m in config["ch_mult"]]
    assert autoencoder.config["layers_per_block"] == config["num_res_blocks_ae"]
    assert autoencoder.config["num_vq_embeddings"] == config["n_embed"]
    assert autoencoder.config["latent_channels"] == config["embed_dim"]
    assert (autoencoder.in_channels, autoencoder.out_channels) == (2, 2)
    assert denoiser.config["block_out_channels"] == [config["model_channels"] * m for m in config["channel_mult"]]
    assert denoiser.config["layers_per_block"] == config["num_res_blocks"]
    attends = [2**level in config["attention_downsampling"] for level in range(3)]
    assert [kind == "AttnDownBlock2D" for kind in denoiser.config["down_block_types"]] == attends
    assert [kind == "AttnUpBlock2D" for kind in denoiser.config["up_block_types"]] == attends[::-1]
    assert (denoiser.in_channels, denoiser.out_channels) == (config["embed_dim"] + config["ctp_channels"], 3)
    assert model.mapper.shape == (config["ctp_channels"], config["ctp_channels"], 1, 1)
    assert (model.scale_factor, model.averaged, model.epoch, model.global_step) == (1.0, False, 7, 2000)
    assert "betas" in model.ignored


@torch.no_grad()
def test_autoencoder(model: CompVisModel, vectors: dict[str, Tensor]) -> None:
    autoencoder = model.autoencoder.build()
    assert_close(autoencoder.encode(vectors["image"]).latents, vectors["latents"])
    assert_close(autoencoder.decode(vectors["latents"]).sample, vectors["reconstruction"])
    unquantised = autoencoder.decode(vectors["latents"], force_not_quantize=True).sample
    assert_close(unquantised, vectors["decoded_unquantised"])


@torch.no_grad()
def test_forward_process_and_denoiser(model: CompVisModel, vectors: dict[str, Tensor]) -> None:
    assert model.denoiser is not None
    assert model.mapper is not None
    assert model.alphas_cumprod is not None
    assert_close(build_scheduler(NOISE_SCHEDULE, 2).alphas_cumprod, model.alphas_cumprod)
    noisy = ForwardProcess.diffusion("epsilon", model.alphas_cumprod).noisy(
        vectors["latents"], vectors["noise"], vectors["timesteps"]
    )
    assert_close(noisy, vectors["noisy_latents"])
    reduced = F.avg_pool2d(vectors["ctp"], 4)
    condition = F.conv2d(reduced, model.mapper)
    assert_close(condition, vectors["conditioning"])
    output = model.denoiser.build()(torch.cat([noisy, condition], dim=1), vectors["timesteps"]).sample
    assert_close(output, vectors["predicted_noise"])
    folded = model.folded().build()(torch.cat([noisy, reduced], dim=1), vectors["timesteps"]).sample
    assert_close(folded, vectors["predicted_noise"])


@torch.no_grad()
@pytest.mark.parametrize("steps", [2, 10])
def test_sampling(model: CompVisModel, vectors: dict[str, Tensor], steps: int) -> None:
    scheduler = build_scheduler(NOISE_SCHEDULE, steps)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == {2: [501, 1], 10: list(range(901, 0, -100))}[steps]
    denoiser, reduced, latents = model.folded().build(), F.avg_pool2d(vectors["ctp"], 4), vectors["x_T"]
    for timestep in scheduler.timesteps:
        output = denoiser(torch.cat([latents, reduced], dim=1), timestep).sample
        latents = scheduler.step(output, timestep, latents).prev_sample
    assert_close(latents, vectors[f"ddim{steps}_latents"])
    assert_close(model.autoencoder.build().decode(latents).sample, vectors[f"ddim{steps}_image"])


@torch.no_grad()
def test_published_loss(model: CompVisModel, vectors: dict[str, Tensor], folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())["losses"]
    assert model.alphas_cumprod is not None
    noise, noisy, timesteps = vectors["noise"], vectors["noisy_latents"], vectors["timesteps"]
    condition = F.avg_pool2d(vectors["ctp"], 4)
    output = model.folded().build()(torch.cat([noisy, condition], dim=1), timesteps).sample
    clean = ForwardProcess.diffusion("epsilon", model.alphas_cumprod).clean(output, noisy, timesteps)
    decode = model.autoencoder.build().decode
    error = (decode(clean).sample - decode(vectors["latents"]).sample) ** 2
    squared = ((output - noise) ** 2).mean(dim=(1, 2, 3))
    found = {
        "loss_simple": squared.mean(),
        "loss_image": error.sum() / vectors["mask"].sum(),
        "loss_lesion": (error * vectors["lesion"]).sum() / vectors["lesion"].sum(),
        "loss_vlb": (squared * _bound_weights(model)[timesteps]).mean(),
    }
    found["loss"] = found["loss_simple"] + 0.01 * found["loss_image"] + 0.02 * found["loss_lesion"]
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=TOLERANCE)


def _bound_weights(model: CompVisModel) -> Tensor:
    """(T,) weight of the squared error in the variational bound (Ho et al. 2020, eq. 12)."""
    betas, alphas = model.buffers["betas"], model.alphas_cumprod
    weights = betas**2 / (2 * model.buffers["posterior_variance"] * (1 - betas) * (1 - alphas))
    weights[0] = weights[1]
    return weights


def test_the_way_back_changes_no_bit(model: CompVisModel, folder: Path, tmp_path: Path) -> None:
    write_compvis(model, tmp_path / "again.ckpt")
    files = [torch.load(p, weights_only=True) for p in (folder / "diffusion.ckpt", tmp_path / "again.ckpt")]
    original, again = (file.pop("state_dict") for file in files)
    assert files[0] == files[1]
    assert original.keys() == again.keys()
    for name, tensor in original.items():
        assert tensor.dtype == again[name].dtype
        assert torch.equal(tensor, again[name]), name
    assert _same(read_compvis(tmp_path / "again.ckpt"), model)


def _same(one: CompVisModel, other: CompVisModel) -> bool:
    networks = [(one.autoencoder, other.autoencoder), (one.denoiser, other.denoiser)]
    return all(
        a is not None
        and b is not None
        and a.config == b.config
        and a.state.keys() == b.state.keys()
        and all(torch.equal(a.state[name], b.state[name]) for name in a.state)
        for a, b in networks
    )
