"""Errors over regions of the head, by hand and against the published system's numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from ctp_ldm.losses import RegionError, masked_mean
from ctp_ldm.networks import ImageAutoencoder, Prediction, build_scheduler
from ctp_ldm.sample import Sample

PARITY = Path(__file__).parents[3] / "shared" / "data" / "lapt_parity"


def sample(brain: torch.Tensor, lesion: torch.Tensor) -> Sample:
    count = len(brain)
    return {
        "source": torch.zeros(count, 1, *brain.shape[2:]),
        "brain": brain,
        "lesion": lesion,
        "case": ["a"] * count,
        "slice_index": torch.arange(count),
    }


@pytest.fixture
def head() -> Sample:
    """Four pixels: lesion, healthy brain, outside, and lesion drawn outside the brain."""
    return sample(torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0, 0.0, 1.0]]]]))


TARGET = torch.zeros(1, 2, 1, 4)
DECODED = torch.tensor([[[[1.0, -2.0, 10.0, 20.0]], [[3.0, 4.0, 10.0, 20.0]]]])


@pytest.mark.parametrize(
    ("region", "power", "expected"),
    [
        ("brain", 2, (1 + 9 + 4 + 16) / 4),
        ("brain", 1, (1 + 3 + 2 + 4) / 4),
        ("lesion", 2, (1 + 9) / 2),
        ("lesion", 1, (1 + 3) / 2),
        ("background", 2, (4 + 16) / 2),
        ("background", 1, (2 + 4) / 2),
    ],
)
def test_each_region_by_hand(region: Any, power: Any, expected: float, head: Sample) -> None:
    assert RegionError(region, weight=0.3, power=power)(DECODED, TARGET, head).item() == pytest.approx(expected)


def test_channel_weights_are_rescaled_to_mean_one(head: Sample) -> None:
    term = RegionError("lesion", weight=1.0, channel_weights=[1.0, 3.0])
    assert term(DECODED, TARGET, head).item() == pytest.approx((0.5 * 1 + 1.5 * 9) / 2)


def test_equal_channel_weights_change_nothing(head: Sample) -> None:
    equal = RegionError("brain", weight=1.0, channel_weights=[5.0, 5.0])(DECODED, TARGET, head)
    torch.testing.assert_close(equal, RegionError("brain", weight=1.0)(DECODED, TARGET, head))


def test_a_batch_without_lesion_gives_zero_with_zero_gradients(head: Sample) -> None:
    head["lesion"] = torch.zeros_like(head["lesion"])
    decoded = DECODED.clone().requires_grad_()
    loss = RegionError("lesion", weight=1.0)(decoded, TARGET, head)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(decoded.grad, torch.zeros_like(decoded))


def test_the_gradient_pulls_towards_the_target_inside_the_region_only(head: Sample) -> None:
    decoded = DECODED.clone().requires_grad_()
    RegionError("lesion", weight=1.0)(decoded, TARGET, head).backward()
    expected = torch.zeros_like(decoded)
    expected[..., 0] = DECODED[..., 0]  # d(x² / 2)/dx
    torch.testing.assert_close(decoded.grad, expected)


@pytest.mark.parametrize("weight", [-0.1, float("nan")])
def test_a_weight_that_is_not_at_least_zero_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of loss term 'lesion'"):
        RegionError("lesion", weight=weight)


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [0.0, 0.0]])
def test_channel_weights_without_meaning_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="channel_weights are"):
        RegionError("brain", weight=1.0, channel_weights=weights)


def test_another_number_of_channel_weights_than_channels_is_refused(head: Sample) -> None:
    with pytest.raises(ValueError, match="channel_weights has 3 values; expected 2"):
        RegionError("brain", weight=1.0, channel_weights=[1.0, 1.0, 1.0])(DECODED, TARGET, head)


def test_the_published_weights_are_twice_as_large_here() -> None:
    """Lee et al. sum over the two channels where `masked_mean` averages."""
    generator = torch.Generator().manual_seed(0)
    d = torch.rand(3, 2, 4, 5, generator=generator)
    brain = (torch.rand(3, 1, 4, 5, generator=generator) > 0.4).float()
    published = 0.01 * (d * brain).sum() / brain.sum()
    torch.testing.assert_close(0.02 * masked_mean(d, brain), published)


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """The published system's inputs, its decoded estimate and reconstruction, and its loss terms."""
    if not PARITY.is_dir():
        pytest.skip(f"parity vectors of the published system are not at {PARITY}")
    expected = json.loads((PARITY / "expected.json").read_text())
    with np.load(PARITY / "vectors.npz") as archive:
        arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
    schedule = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": expected["config"]["beta"][0],
        "beta_end": expected["config"]["beta"][1],
    }
    prediction = Prediction("epsilon", build_scheduler(schedule, 10).alphas_cumprod)
    clean = prediction.clean(arrays["predicted_noise"], arrays["noisy_latents"], arrays["timesteps"])
    with torch.no_grad():
        decoded = _published_autoencoder(expected["config"]).decode(clean)
    return {"losses": expected["losses"], "prediction": prediction, "decoded": decoded, **arrays}


def _published_autoencoder(config: dict[str, Any]) -> ImageAutoencoder:
    levels = len(config["ch_mult"])
    settings = {
        "block_out_channels": [config["ch"] * m for m in config["ch_mult"]],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": config["num_res_blocks_ae"],
        "latent_channels": config["embed_dim"],
    }
    net = ImageAutoencoder({"_class_name": "VQModel", "num_vq_embeddings": config["n_embed"], **settings}, channels=2)
    state = torch.load(PARITY / "diffusion.ckpt", weights_only=True)["state_dict"]
    codebook = state["first_stage_model.quantize.embedding.weight"]
    converted = convert_ldm_vae_checkpoint(state, settings)
    net.net.load_state_dict({**converted, "quantize.embedding.weight": codebook})
    return net


def test_the_published_forward_process_is_reproduced(published: dict[str, Any]) -> None:
    noisy = published["prediction"].noisy(published["latents"], published["noise"], published["timesteps"])
    torch.testing.assert_close(noisy, published["noisy_latents"], atol=1e-5, rtol=1e-5)


def test_the_published_lesion_term_is_twice_ours(published: dict[str, Any]) -> None:
    """Their target is the reconstruction; the second sample has no lesion."""
    head = sample(published["mask"], published["lesion"])
    ours = RegionError("lesion", weight=1.0)(published["decoded"], published["reconstruction"], head)
    assert 2 * ours.item() == pytest.approx(published["losses"]["loss_lesion"], rel=1e-4)


def test_the_published_image_term_is_ours_over_the_whole_picture(published: dict[str, Any]) -> None:
    """They sum over the whole picture but divide by the brain."""
    everywhere = sample(torch.ones_like(published["mask"]), published["lesion"])
    ours = RegionError("brain", weight=1.0)(published["decoded"], published["reconstruction"], everywhere)
    brain_fraction = published["mask"].mean().item()
    assert 2 * ours.item() / brain_fraction == pytest.approx(published["losses"]["loss_image"], rel=1e-4)
