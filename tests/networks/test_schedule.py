"""Schedules that contradict themselves are refused; what a network predicts agrees with diffusers' own functions."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from samples import NOISE_PREDICTION, SCHEDULER

from ctp_ldm.networks import ConfigError, ForwardProcess, build_scheduler

KINDS = ["epsilon", "sample", "v_prediction"]


@pytest.mark.parametrize(
    ("changes", "steps", "message"),
    [
        ({"prediction_type": "epsilon"}, 10, "pure noise.*use v_prediction or sample"),
        ({"timestep_spacing": "leading"}, 10, "use trailing"),
        ({"timestep_spacing": "linspace"}, 10, "use trailing"),
        ({"prediction_type": "velocity"}, 10, "prediction_type is 'velocity'"),
        ({}, 0, "steps is 0; expected 1 to num_train_timesteps"),
        ({}, 1001, "steps is 1001; expected 1 to num_train_timesteps"),
        ({"beta_end": 0.0195, "beta_stop": 0.02}, 10, "did you mean"),
        ({"_class_name": "EulerDiscreteScheduler"}, 10, "expected one of"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(changes: dict[str, Any], steps: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_scheduler({**SCHEDULER, **changes}, steps)


@pytest.mark.parametrize("steps", [1, 1000])
@pytest.mark.parametrize("config", [SCHEDULER, NOISE_PREDICTION], ids=["v", "published"])
def test_consistent_settings_are_accepted(config: dict[str, Any], steps: int) -> None:
    assert isinstance(build_scheduler(config, steps), DDIMScheduler)


@pytest.mark.parametrize(("given", "expected"), [({}, False), ({"clip_sample": True}, True)])
def test_latents_are_clipped_only_on_demand(given: dict[str, bool], expected: bool) -> None:
    assert build_scheduler({**SCHEDULER, **given}, 10).config["clip_sample"] is expected


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(1))


def scheduler(kind: str) -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
        prediction_type=kind,
        rescale_betas_zero_snr=kind != "epsilon",
    )


TIMESTEPS = torch.tensor([0, 137, 800, 999])


@pytest.mark.parametrize("kind", KINDS)
def test_the_forward_process_is_that_of_diffusers(kind: str, clean: torch.Tensor, noise: torch.Tensor) -> None:
    reference = scheduler(kind)
    noisy = ForwardProcess.diffusion(kind, reference.alphas_cumprod).noisy(clean, noise, TIMESTEPS)
    torch.testing.assert_close(noisy, reference.add_noise(clean, noise, TIMESTEPS))


def test_v_is_that_of_diffusers(clean: torch.Tensor, noise: torch.Tensor) -> None:
    reference = scheduler("v_prediction")
    target = ForwardProcess.diffusion("v_prediction", reference.alphas_cumprod).target(clean, noise, TIMESTEPS)
    torch.testing.assert_close(target, reference.get_velocity(clean, noise, TIMESTEPS))


def test_the_other_targets_are_the_noise_and_the_clean_latents(clean: torch.Tensor, noise: torch.Tensor) -> None:
    alphas = scheduler("epsilon").alphas_cumprod
    assert torch.equal(ForwardProcess.diffusion("epsilon", alphas).target(clean, noise, TIMESTEPS), noise)
    assert torch.equal(ForwardProcess.diffusion("sample", alphas).target(clean, noise, TIMESTEPS), clean)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_output_gives_the_clean_latents_back(kind: str, clean: torch.Tensor, noise: torch.Tensor) -> None:
    prediction = ForwardProcess.diffusion(kind, scheduler(kind).alphas_cumprod)
    target = prediction.target(clean, noise, TIMESTEPS)
    implied = prediction.clean(target, prediction.noisy(clean, noise, TIMESTEPS), TIMESTEPS)
    # Noise prediction divides by √ᾱ ≈ 0.012 at the last timestep.
    torch.testing.assert_close(implied, clean, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_implied_clean_latents_of_any_output_are_those_of_a_ddim_step(
    kind: str, clean: torch.Tensor, noise: torch.Tensor
) -> None:
    reference = scheduler(kind)
    reference.config.clip_sample = False
    reference.set_timesteps(10)
    prediction = ForwardProcess.diffusion(kind, reference.alphas_cumprod)
    for t in TIMESTEPS:
        expected = reference.step(noise, int(t), clean).pred_original_sample
        torch.testing.assert_close(prediction.clean(noise, clean, t.expand(4)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["sample", "v_prediction"])
def test_the_last_timestep_of_a_zero_snr_schedule_is_pure_noise_and_still_gives_clean_latents(
    kind: str, clean: torch.Tensor, noise: torch.Tensor
) -> None:
    prediction = ForwardProcess.diffusion(kind, scheduler(kind).alphas_cumprod)
    last = torch.full((4,), 999)
    noisy = prediction.noisy(clean, noise, last)
    torch.testing.assert_close(noisy, noise)
    assert torch.equal(prediction.clean(prediction.target(clean, noise, last), noisy, last), clean)


def test_timesteps_belong_to_the_samples_of_a_volume_batch_too() -> None:
    prediction = ForwardProcess.diffusion("v_prediction", torch.tensor([1.0, 0.25]))
    ones, zeros = torch.ones(2, 1, 2, 3, 4), torch.zeros(2, 1, 2, 3, 4)
    noisy = prediction.noisy(ones, zeros, torch.tensor([0, 1]))
    assert torch.equal(noisy, torch.tensor([1.0, 0.5]).view(2, 1, 1, 1, 1).expand_as(noisy))


def test_half_precision_latents_keep_the_small_signal_near_the_end_of_the_schedule() -> None:
    alpha = 1e-9  # below the smallest number of float16
    prediction = ForwardProcess.diffusion("sample", torch.tensor([alpha]))
    clean = torch.ones(1, 1, 1, 1, dtype=torch.float16)
    noisy = prediction.noisy(clean, torch.zeros_like(clean), torch.tensor([0]))
    assert noisy.item() == pytest.approx(alpha**0.5)


@pytest.mark.parametrize("kind", [*KINDS, "displacement"])
@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_min_snr_weights_make_all_outputs_weigh_the_error_of_x0_alike(
    kind: str, gamma: float, clean: torch.Tensor, noise: torch.Tensor
) -> None:
    """Whatever the network puts out: weight · ‖its error‖² is min(SNR, γ) · ‖x0's error‖²."""
    alphas = scheduler("epsilon").alphas_cumprod
    process = ForwardProcess.diffusion(kind, alphas)
    noisy = process.noisy(clean, noise, TIMESTEPS)
    target = process.target(clean, noise, TIMESTEPS)
    output = target + 0.1
    weighted = process.min_snr_weights(TIMESTEPS, gamma) * ((output - target) ** 2).mean(dim=(1, 2, 3))
    error = ((process.clean(output, noisy, TIMESTEPS) - clean) ** 2).mean(dim=(1, 2, 3))
    snr = (alphas / (1 - alphas))[TIMESTEPS]
    torch.testing.assert_close(weighted, snr.clamp(max=gamma) * error, rtol=2e-3, atol=1e-4)


def test_processes_are_the_same_when_their_networks_can_be_exchanged() -> None:
    first = ForwardProcess.of(scheduler("v_prediction"))
    assert first.same_as(ForwardProcess.of(scheduler("v_prediction")))
    assert not first.same_as(ForwardProcess.of(scheduler("sample")))
    assert not first.same_as(ForwardProcess.diffusion("v_prediction", scheduler("epsilon").alphas_cumprod))
