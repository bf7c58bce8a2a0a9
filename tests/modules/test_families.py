"""Every family trains, is post-trained by the same losses, and samples: only the config differs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from samples import KL, SCHEDULER, VQ, ToyData, diffusion, optimizer, posttrain, random_batch, trainer

from ctp_ldm.losses import RegionError
from ctp_ldm.modules import LatentDiffusionModule
from ctp_ldm.networks import ConfigError
from ctp_ldm.runs import CheckpointError
from ctp_ldm.sample import Sample

ONE_STEP: dict[str, Any] = {"noise": "zero", "timestep_range": (999, 1000), "steps": 1}
BRIDGE: dict[str, Any] = {"_class_name": "BrownianBridgeScheduler"}
FAMILIES: dict[str, dict[str, Any]] = {
    "diffusion": {},
    "regression": {**ONE_STEP, "scheduler": {**SCHEDULER, "prediction_type": "sample"}},
    "fixed noise": {**ONE_STEP, "noise": "fixed"},
    "bridge": {"scheduler": BRIDGE},
}


@pytest.fixture
def batch() -> Sample:
    return random_batch()


def fitted(module: LatentDiffusionModule, batch: Sample, folder: Path, steps: int) -> LatentDiffusionModule:
    module.make_optimizer = optimizer(0.02)
    torch.manual_seed(3)
    trainer(folder, max_steps=steps, max_epochs=-1).fit(module, datamodule=ToyData(batch))
    return module.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_learns_a_batch_and_post_training_moves_it_on(family: str, batch: Sample, tmp_path: Path) -> None:
    """From latents to pixels: the latent loss falls by half, then the lesion's decoded error falls further."""
    settings = FAMILIES[family]
    base = diffusion(**settings, scale=False)
    base.init_from(checkpoint(tmp_path))
    before = latent_loss(base, batch)
    fitted(base, batch, tmp_path, 120)
    assert latent_loss(base, batch) < before / 2
    path = tmp_path / "base.ckpt"
    saver = trainer(tmp_path, max_steps=0)
    saver.strategy.connect(base)
    saver.save_checkpoint(path)

    post = posttrain(**settings, scale=False, latent_weight=0.0, terms=[RegionError("lesion", 1.0)])
    post.init_from(path)
    assert torch.equal(post.latent_std, base.latent_std)
    start = decoded_loss(post, batch)
    fitted(post, batch, tmp_path, 60)
    assert decoded_loss(post, batch) < 0.9 * start
    with torch.no_grad():
        image = post.predict_step(batch, 0)["image"]
    assert image.shape == batch["target"].shape
    assert torch.isfinite(image).all()


def checkpoint(folder: Path) -> Path:
    """Of a random autoencoder, untrained."""
    from samples import autoencoder

    first = autoencoder()
    saver = trainer(folder, max_steps=0)
    saver.strategy.connect(first)
    saver.save_checkpoint(folder / "autoencoder.ckpt")
    return folder / "autoencoder.ckpt"


def latent_loss(module: LatentDiffusionModule, batch: Sample) -> float:
    if module.latent_std.isnan().any():
        module.estimate_latent_scale([batch])
    torch.manual_seed(0)
    with torch.no_grad():
        return float(torch.stack([module.denoise(batch)[0] for _ in range(20)]).mean())


def decoded_loss(module: Any, batch: Sample) -> float:
    torch.manual_seed(0)
    with torch.no_grad():
        return float(torch.stack([module.loss(batch)["lesion"] for _ in range(10)]).mean())


def test_one_step_regression_is_a_plain_regression(batch: Sample) -> None:
    """Its loss and its image are those of a network that is given zeros and the source."""
    module = diffusion(**FAMILIES["regression"]).eval()
    zeros, last = torch.zeros(4, 3, 8, 12), torch.full((4,), 999)
    with torch.no_grad():
        output = module.predict_output(zeros, last, module.condition(batch["source"]))
        expected = ((output - module.encode(batch["target"])) ** 2).mean()
        torch.testing.assert_close(module.loss(batch)["latent"], expected)
        torch.testing.assert_close(module.synthesise(batch), module.decode(output))


def test_an_end_to_end_step_is_the_pixel_loss_of_the_one_step_image(batch: Sample) -> None:
    module = posttrain(**ONE_STEP, latent_weight=0.0, terms=[RegionError("brain", 2.0)]).eval()
    terms = module.loss(batch)
    with torch.no_grad():
        error = (module.synthesise(batch) - batch["target"]) ** 2
    expected = 2 * (error * batch["brain"]).sum() / (2 * batch["brain"].sum())
    torch.testing.assert_close(terms["brain"], expected)
    assert terms["latent"] == 0


def test_a_bridge_ends_in_the_linear_map_of_the_source(batch: Sample) -> None:
    """The residual of the training data is no larger than the latents themselves, and uncorrelated with the source."""
    module = diffusion(scheduler=BRIDGE)
    module.estimate_latent_scale([batch])
    condition = module.condition(batch["source"])
    residual = module.encode(batch["target"]) - module.endpoint(batch["source"])
    assert 0 < residual.var() <= module.encode(batch["target"]).var()
    flat = residual.transpose(0, 1).flatten(1) @ condition.transpose(0, 1).flatten(1).T
    torch.testing.assert_close(flat / residual[0, 0].numel(), torch.zeros(3, 3), atol=1e-4, rtol=0)


def test_a_bridge_with_an_untrained_network_that_says_nothing_gives_the_map_itself(batch: Sample) -> None:
    module = diffusion(scheduler={**BRIDGE, "prediction_type": "sample", "eta": 0.0}, steps=3).eval()
    torch.nn.init.zeros_(module.denoiser.conv_out.weight)
    torch.nn.init.zeros_(module.denoiser.conv_out.bias)
    with torch.no_grad():
        image = module.synthesise(batch)
        torch.testing.assert_close(image, module.decode(module.endpoint(batch["source"])))


@pytest.mark.parametrize("steps", [1, 2, 4, 10])
@pytest.mark.parametrize("family", ["diffusion", "bridge"])
def test_few_step_sampling(family: str, steps: int, batch: Sample) -> None:
    module = diffusion(**{**FAMILIES[family], "steps": steps}).eval()
    with torch.no_grad():
        assert torch.isfinite(module.synthesise(batch)).all()
        torch.testing.assert_close(module.synthesise(batch), module.synthesise(batch))


@pytest.mark.parametrize("config", [KL, VQ], ids=["KL", "VQ"])
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_post_training_takes_any_autoencoder_and_prediction(
    config: dict[str, Any], kind: str, batch: Sample, tmp_path: Path
) -> None:
    schedule = {**SCHEDULER, "prediction_type": kind, "rescale_betas_zero_snr": kind != "epsilon"}
    module = posttrain(config, scheduler=schedule, latent_weight=0.0, terms=[RegionError("lesion", 1.0)])
    before = module.denoiser.conv_in.weight.detach().clone()
    fitted(module, batch, tmp_path, 2)
    assert not torch.equal(module.denoiser.conv_in.weight, before)
    assert torch.isfinite(module.denoiser.conv_in.weight).all()


def test_the_published_target_is_the_reconstruction(batch: Sample) -> None:
    settings: dict[str, Any] = {**ONE_STEP, "latent_weight": 0.0, "terms": [RegionError("brain", 1.0)]}
    module = posttrain(**settings, decoded_target="reconstruction").eval()
    with torch.no_grad():
        reconstruction = module.decode(module.encode(batch["target"]))
        error = (module.synthesise(batch) - reconstruction) ** 2
        found = module.loss(batch)["brain"]
    torch.testing.assert_close(found, (error * batch["brain"]).sum() / (2 * batch["brain"].sum()))


def test_min_snr_weights_the_latent_loss_by_timestep(batch: Sample) -> None:
    settings: dict[str, Any] = {
        "scheduler": {**SCHEDULER, "rescale_betas_zero_snr": False},
        "timestep_range": (700, 701),
    }
    plain, weighted = (diffusion(**settings, **more).eval() for more in ({}, {"min_snr_gamma": 0.01}))
    torch.manual_seed(0)
    with torch.no_grad():
        expected = plain.loss(batch)["latent"]
        torch.manual_seed(0)
        found = weighted.loss(batch)["latent"]
    weight = weighted.process.min_snr_weights(torch.tensor([700]), 0.01)
    torch.testing.assert_close(found, expected * weight[0])
    assert 0 < weight[0] < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "zero", "timestep_range": (999, 1000), "steps": 2}, "visit timesteps that are not trained"),
        ({"noise": "zero", "scheduler": {**SCHEDULER, "prediction_type": "epsilon", "rescale_betas_zero_snr": False}},
         "no noise to predict"),
        ({"noise": "fixed", "scheduler": BRIDGE}, "a bridge, which has its own start"),
        ({"min_snr_gamma": 5.0}, "zero terminal SNR gives weight 0"),
        ({"min_snr_gamma": 0.0}, "expected above 0"),
        ({"scale_factor": 0.0}, "scale_factor is 0.0"),
        ({"timestep_range": (10, 10)}, "expected 0 ≤ first < end ≤ 1000"),
    ],
)  # fmt: skip
def test_settings_that_contradict_one_another_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        diffusion(**settings)


def test_a_published_scale_is_taken_instead_of_an_estimated_one(tmp_path: Path, batch: Sample) -> None:
    module = diffusion(scale=False, scale_factor=0.5)
    module.init_from(checkpoint(tmp_path))
    fitted(module, batch, tmp_path, 1)
    assert torch.equal(module.latent_std, torch.full_like(module.latent_std, 2.0))
    assert torch.equal(module.latent_mean, torch.zeros_like(module.latent_mean))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheduler": {**SCHEDULER, "prediction_type": "sample"}}, "trained with another schedule: .*v_prediction"),
        ({"scheduler": {**SCHEDULER, "beta_end": 0.012}}, "trained with another schedule"),
        ({"scheduler": BRIDGE}, "prediction_type displacement"),
    ],
)
def test_a_base_of_another_schedule_is_refused_before_training(
    settings: dict[str, Any], message: str, checkpoints: dict[str, Path]
) -> None:
    module = posttrain(**settings, scale=False)
    with pytest.raises(CheckpointError, match=message):
        module.init_from(checkpoints["diffusion"])


def test_networks_of_the_same_shapes_with_another_function_are_refused(checkpoints: dict[str, Path]) -> None:
    config = {**KL, "norm_num_groups": 2}
    with pytest.raises(CheckpointError, match=r"autoencoder\.norm_num_groups is 4 there, 2 here"):
        posttrain(config, scale=False).init_from(checkpoints["diffusion"])
