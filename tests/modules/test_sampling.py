"""Latents, and images from noise."""

from typing import Any

import numpy as np
import pytest
import torch
from samples import KL, SCHEDULER, SIZE, SPEC, VQ, ToyData, autoencoder, diffusion, random_batch, select, trainer

from ctp_ldm.networks import ConfigError, initial_noise, slice_generators
from ctp_ldm.sample import Sample

BOTH = pytest.mark.parametrize("config", [VQ, KL], ids=["VQ", "KL"])


@BOTH
def test_training_latents_have_mean_zero_and_deviation_one_per_channel(config: dict[str, Any]) -> None:
    batches = [random_batch(seed=i) for i in range(3)]
    module = diffusion(config, scale=False)
    module.estimate_latent_scale(batches)
    latents = torch.cat([module.encode(b["target"]) for b in batches]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.std(1, correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_the_latent_scale_comes_from_so_many_batches() -> None:
    some, more = diffusion(scale=False, latent_batches=2), diffusion(scale=False)
    batches = [random_batch(seed=i) for i in range(3)]
    some.estimate_latent_scale(batches)
    more.estimate_latent_scale(batches[:2])
    assert torch.equal(some.latent_std, more.latent_std)
    more.estimate_latent_scale(batches)
    assert not torch.equal(some.latent_std, more.latent_std)


def test_constant_latents_are_refused(batch: Sample) -> None:
    module = diffusion(scale=False)
    torch.nn.init.zeros_(module.autoencoder.net.quant_conv.weight)
    with pytest.raises(ConfigError, match="train the autoencoder first"):
        module.estimate_latent_scale([batch])


def test_the_latent_scale_is_estimated_once_and_kept(tmp_path: Any, batch: Sample) -> None:
    module = diffusion(scale=False)
    module.base = tmp_path  # as after init_from
    trainer(tmp_path, max_steps=1).fit(module, datamodule=ToyData(batch))
    kept = module.state_dict()["latent_std"].clone()
    assert kept.isfinite().all()
    trainer(tmp_path, max_steps=1).fit(module, datamodule=ToyData(random_batch(seed=7)))
    assert torch.equal(module.latent_std, kept)


@BOTH
def test_decoding_undoes_the_standardisation(config: dict[str, Any], batch: Sample) -> None:
    module = diffusion(config)
    plain = module.autoencoder.decode(module.autoencoder.encode(batch["target"]))
    torch.testing.assert_close(module.decode(module.encode(batch["target"])), plain, atol=1e-5, rtol=1e-5)


def test_the_condition_is_the_mean_of_the_source_over_each_latent_pixel(batch: Sample) -> None:
    expected = batch["source"].reshape(4, 3, 8, 2, 12, 2).mean(dim=(3, 5))
    torch.testing.assert_close(diffusion().condition(batch["source"]), expected)


@pytest.fixture
def slices() -> Sample:
    sample = random_batch(4)
    sample["case"] = ["a", "a", "b", "b"]
    sample["slice_index"] = torch.tensor([3, 4, 3, 4])
    return sample


@BOTH
@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
@torch.no_grad()
def test_a_slice_has_the_same_image_in_any_company(name: str, config: dict[str, Any], slices: Sample) -> None:
    module = diffusion(config, scheduler={**SCHEDULER, "_class_name": name}, steps=4).eval()
    together = module.synthesise(slices)
    torch.manual_seed(1234)
    reordered = module.synthesise(select(slices, [2, 0, 3, 1]))
    torch.testing.assert_close(reordered, together[[2, 0, 3, 1]], atol=1e-5, rtol=0)
    for i in range(4):
        torch.testing.assert_close(module.synthesise(select(slices, [i])), together[i : i + 1], atol=1e-5, rtol=0)


def first_noise(batch: Sample, seed: int = 0) -> torch.Tensor:
    generators = slice_generators(seed, batch["case"], batch["slice_index"].tolist())
    return initial_noise("random", generators, seed, (3, SIZE[0] // 2, SIZE[1] // 2), torch.device("cpu"))


@torch.no_grad()
def test_patient_slice_and_sampling_seed_each_change_the_noise(slices: Sample) -> None:
    noise, other = first_noise(slices), first_noise(slices, seed=1)
    everything = torch.cat([noise, other]).flatten(1)
    assert len({tuple(row.tolist()) for row in everything}) == 8


@torch.no_grad()
def test_another_sampling_seed_gives_another_image(slices: Sample) -> None:
    first, second = diffusion().synthesise(slices), diffusion(sampling_seed=1).synthesise(slices)
    assert (first - second).abs().max() > 1e-3


@torch.no_grad()
def test_initial_noise_is_standard_normal() -> None:
    noise = first_noise(random_batch(64))
    assert noise.shape == (64, 3, 8, 12)
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)


def zero_snr_alphas() -> np.ndarray:
    """ᾱ of `SCHEDULER`, in float64: betas linear in their roots, then Lin et al. 2023, algorithm 1."""
    root = np.sqrt(np.cumprod(1 - np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2))
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
@torch.no_grad()
def test_sampling_is_ddim_without_noise(steps: int, kind: str, batch: Sample) -> None:
    """Song et al. 2021 with η = 0, from the last timestep down in equal strides."""
    module = diffusion(scheduler={**SCHEDULER, "prediction_type": kind}, steps=steps).eval()
    alphas = np.append(zero_snr_alphas(), 1.0)  # index −1: clean
    condition = module.condition(batch["source"])
    latents = first_noise(batch)
    stride = 1000 // steps
    for t in range(999, -1, -stride):
        a, s = float(np.sqrt(alphas[t])), float(np.sqrt(1 - alphas[t]))
        output = module.denoiser(torch.cat([latents, condition], dim=1), torch.full((4,), t)).sample
        clean = a * latents - s * output if kind == "v_prediction" else output
        noise = a * output + s * latents if kind == "v_prediction" else (latents - a * output) / s
        before = alphas[max(t - stride, -1)]
        latents = float(np.sqrt(before)) * clean + float(np.sqrt(1 - before)) * noise
    expected = module.autoencoder.decode(latents * module.latent_std + module.latent_mean)
    torch.testing.assert_close(module.synthesise(batch), expected, atol=1e-4, rtol=1e-4)


def test_predictions_are_physical_and_zero_outside_the_brain(batch: Sample) -> None:
    module = autoencoder().eval()
    with torch.no_grad():
        prediction, encoded = module.predict_step(batch, 0)["image"], module.synthesise(batch).clamp(-1, 1)
    inside = batch["brain"][:, 0] > 0
    torch.testing.assert_close(prediction[:, 0][inside], (encoded[:, 0][inside] + 1) * 2)
    torch.testing.assert_close(prediction[:, 1][inside], (encoded[:, 1][inside] + 1) * 1500)
    assert (prediction * (1 - batch["brain"])).abs().max() == 0


def test_prediction_needs_neither_mri_nor_lesion_mask(batch: Sample) -> None:
    plain: Any = {key: value for key, value in batch.items() if key not in ("target", "lesion")}
    with torch.no_grad():
        prediction = diffusion().predict_step(plain, 0)["image"]
    assert prediction.shape == (4, len(SPEC.target), *SPEC.size)
    assert prediction.isfinite().all()
