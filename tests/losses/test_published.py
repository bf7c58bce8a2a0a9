"""The published system's decoded terms, from its own numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from ctp_ldm.losses import RegionError
from ctp_ldm.networks import ForwardProcess, ImageAutoencoder, build_scheduler
from losses.heads import bound, head

PARITY = Path(__file__).parents[3] / "shared" / "data" / "lapt_parity"


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
    process = ForwardProcess.diffusion("epsilon", build_scheduler(schedule, 10).alphas_cumprod)
    clean = process.clean(arrays["predicted_noise"], arrays["noisy_latents"], arrays["timesteps"])
    with torch.no_grad():
        decoded = _autoencoder(expected["config"]).decode(clean)
    return {"losses": expected["losses"], "process": process, "decoded": decoded, **arrays}


def _autoencoder(config: dict[str, Any]) -> ImageAutoencoder:
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


def test_the_forward_process_is_reproduced(published: dict[str, Any]) -> None:
    noisy = published["process"].noisy(published["latents"], published["noise"], published["timesteps"])
    torch.testing.assert_close(noisy, published["noisy_latents"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("term", "key", "weight"),
    [
        (RegionError("image", weight=0.02, per="brain"), "loss_image", 0.01),
        (RegionError("lesion", weight=0.04), "loss_lesion", 0.02),
    ],
    ids=["image", "lesion"],
)
def test_the_weighted_terms_are_reproduced(
    term: RegionError, key: str, weight: float, published: dict[str, Any]
) -> None:
    """Their target is the reconstruction; the second sample has no lesion."""
    sample = head(published["mask"], published["lesion"])
    ours = term.weight * bound(term)(published["decoded"], published["reconstruction"], sample)
    assert ours.item() == pytest.approx(weight * published["losses"][key], rel=1e-4)
