"""Without an autoencoder: the latent methods in pixel space, which start from nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from samples import PIXELS, SCHEDULER, ToyData, autoencoder, diffusion, optimizer, posttrain, random_batch, trainer

from ctp_ldm.losses import Adversarial, RegionError
from ctp_ldm.modules import LatentDiffusionModule
from ctp_ldm.networks import ConfigError
from ctp_ldm.runs import CheckpointError
from ctp_ldm.sample import Sample

ONE_STEP: dict[str, Any] = {
    "noise": "zero",
    "timestep_range": (999, 1000),
    "steps": 1,
    "scheduler": {**SCHEDULER, "prediction_type": "sample"},
}


@pytest.fixture
def batch() -> Sample:
    return random_batch()


def fitted(module: LatentDiffusionModule, batch: Sample, folder: Path, steps: int = 2) -> LatentDiffusionModule:
    module.make_optimizer = optimizer(0.01)
    run = trainer(folder, max_steps=steps, max_epochs=-1)
    run.fit(module, datamodule=ToyData(batch))
    run.save_checkpoint(folder / "pixels.ckpt")
    return module.eval()


@pytest.mark.parametrize("settings", [{}, ONE_STEP], ids=["diffusion", "regression"])
def test_it_is_trained_without_a_base_on_standardised_images(
    settings: dict[str, Any], batch: Sample, tmp_path: Path
) -> None:
    module = fitted(diffusion(PIXELS, scale=False, **settings), batch, tmp_path)
    deviation, mean = torch.std_mean(batch["target"], dim=(0, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(module.latent_mean, mean)
    torch.testing.assert_close(module.latent_std, deviation)
    torch.testing.assert_close(module.encode(batch["target"]), (batch["target"] - mean) / deviation)
    assert torch.equal(module.condition(batch["source"]), batch["source"])
    with torch.no_grad():
        image = module.predict_step(batch, 0)["image"]
    assert image.shape == batch["target"].shape
    assert image.isfinite().all()


def test_one_step_learns_the_image(batch: Sample, tmp_path: Path) -> None:
    """The network's output, in the images' units, is what is synthesised."""
    module = diffusion(PIXELS, **ONE_STEP).eval()
    with torch.no_grad():
        output = module.predict_output(torch.zeros_like(batch["target"]), torch.full((4,), 999), batch["source"])
        torch.testing.assert_close(module.synthesise(batch), output * module.latent_std + module.latent_mean)
        before = module.loss(batch)["latent"]
        assert fitted(module, batch, tmp_path, 60).loss(batch)["latent"] < 0.7 * before


def test_an_adversary_and_an_l1_term_train_it_from_scratch(batch: Sample, tmp_path: Path) -> None:
    """Which is pix2pix."""
    patch = {"_class_name": "PatchDiscriminator", "channels": 4, "num_layers_d": 1}
    terms = [RegionError("brain", 1.0, power=1), Adversarial(0.01, patch, conditional=True)]
    module = posttrain(PIXELS, scale=False, latent_weight=0.0, terms=terms, **ONE_STEP)
    before = {name: value.clone() for name, value in module.named_parameters()}
    fitted(module, batch, tmp_path)
    changed = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    assert {"denoiser.conv_in.weight", "terms.1.discriminator.initial_conv.conv.weight"} <= changed
    assert all(p.isfinite().all() for p in module.parameters())


def test_post_training_starts_from_a_model_in_pixel_space(batch: Sample, tmp_path: Path) -> None:
    base = fitted(diffusion(PIXELS, scale=False), batch, tmp_path)
    post = posttrain(PIXELS, scale=False, terms=[RegionError("lesion", 0.3)])
    post.init_from(tmp_path / "pixels.ckpt")
    assert torch.equal(post.latent_std, base.latent_std)
    assert torch.equal(post.denoiser.conv_in.weight, base.denoiser.conv_in.weight)
    with pytest.raises(CheckpointError, match=r"autoencoder\._class_name is PixelSpace there, AutoencoderKL here"):
        posttrain(scale=False).init_from(tmp_path / "pixels.ckpt")


def test_a_latent_model_without_a_base_is_still_refused(batch: Sample, tmp_path: Path) -> None:
    for module in (diffusion(scale=False), posttrain(scale=False)):
        with pytest.raises(CheckpointError, match="has no trained networks to start from: set init_from"):
            fitted(module, batch, tmp_path)


def test_there_is_no_stage_1_in_pixel_space() -> None:
    with pytest.raises(ConfigError, match="PixelSpace, which has nothing to train; expected AutoencoderKL or VQModel"):
        autoencoder(PIXELS)
