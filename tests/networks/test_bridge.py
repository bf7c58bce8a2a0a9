"""The Brownian bridge against its paper's formulas, which are for the image and not for the residual."""

import pytest
import torch
from torch import Tensor

from ctp_ldm.networks import BrownianBridgeScheduler, ConfigError, ForwardProcess, build_scheduler

T = 1000
BRIDGE = {"_class_name": "BrownianBridgeScheduler", "num_train_timesteps": T}


def m_and_delta(timestep: int, s: float = 1.0) -> tuple[float, float]:
    """m_t and δ_t of Li et al. 2023."""
    m = 0.001 + (0.999 - 0.001) * timestep / (T - 1)
    return m, 2 * s * (m - m * m)


def randn(seed: int) -> Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("timestep", [0, 300, 999])
@pytest.mark.parametrize("s", [1.0, 0.5])
def test_the_forward_process_is_the_papers(timestep: int, s: float) -> None:
    image, source, noise = randn(0), randn(1), randn(2)
    m, delta = m_and_delta(timestep, s)
    x_t = (1 - m) * image + m * source + delta**0.5 * noise
    process = ForwardProcess.of(build_scheduler({**BRIDGE, "max_variance": s}, 10))
    timesteps = torch.full((2,), timestep)
    residual = process.noisy(image - source, noise, timesteps)
    torch.testing.assert_close(residual + source, x_t, rtol=1e-5, atol=1e-5)
    displacement = m * (source - image) + delta**0.5 * noise  # its objective, x_t − x_0
    torch.testing.assert_close(process.target(image - source, noise, timesteps), displacement, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["displacement", "sample", "epsilon"])
def test_a_perfect_output_gives_the_clean_latents_back(kind: str) -> None:
    process = ForwardProcess.of(build_scheduler({**BRIDGE, "prediction_type": kind}, 10))
    clean, noise, timesteps = randn(0), randn(1), torch.tensor([0, 700])
    noisy = process.noisy(clean, noise, timesteps)
    found = process.clean(process.target(clean, noise, timesteps), noisy, timesteps)
    torch.testing.assert_close(found, clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sampling_step_is_the_papers(eta: float) -> None:
    """Equation 13 with x_0 estimated from the displacement, from the first visited timestep to the second."""
    scheduler = build_scheduler({**BRIDGE, "eta": eta}, 4)
    scheduler.set_timesteps(4)
    first, second = scheduler.timesteps[:2].tolist()
    assert (first, second) == (999, 749)
    source, x_t, output = randn(0), randn(1), randn(2)
    (m, delta), (m_next, delta_next) = m_and_delta(first), m_and_delta(second)
    x_0 = x_t - output
    between = delta - delta_next * ((1 - m) / (1 - m_next)) ** 2
    variance = eta * between * delta_next / delta
    expected = (1 - m_next) * x_0 + m_next * source
    expected = expected + ((delta_next - variance) / delta) ** 0.5 * (x_t - (1 - m) * x_0 - m * source)
    generator = torch.Generator().manual_seed(5)
    expected = expected + variance**0.5 * torch.randn(x_t.shape, generator=generator)
    found = scheduler.step(output, first, x_t - source, generator=torch.Generator().manual_seed(5)).prev_sample
    torch.testing.assert_close(found + source, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 50])
def test_sampling_starts_at_the_source_and_ends_at_what_the_network_says(steps: int) -> None:
    scheduler = build_scheduler(BRIDGE, steps)
    assert scheduler.init_noise_sigma == 0
    scheduler.set_timesteps(steps)
    assert len(scheduler.timesteps) == steps
    assert scheduler.timesteps[0] == T - 1
    clean, latents = randn(3), torch.zeros(2, 3, 4, 5)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    for timestep in scheduler.timesteps:
        latents = scheduler.step(latents - clean, timestep, latents, generator=generators).prev_sample
    torch.testing.assert_close(latents, clean)


def test_it_is_saved_and_loaded_as_other_schedulers_are(tmp_path: object) -> None:
    scheduler = BrownianBridgeScheduler(max_variance=0.7, eta=0.0)
    scheduler.save_pretrained(tmp_path)
    again = BrownianBridgeScheduler.from_pretrained(tmp_path)
    assert again.config["max_variance"] == 0.7
    assert torch.equal(again.noise, scheduler.noise)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction_type": "v_prediction"}, "expects one of"),
        ({"max_variance": 0.0}, "max_variance is 0.0"),
        ({"eta": 1.5}, "eta"),
        ({"num_train_timesteps": 1}, "at least 2"),
        ({"timestep_spacing": "leading"}, "expected 'trailing'"),
    ],
)
def test_settings_without_meaning_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_scheduler({**BRIDGE, **changes}, 10)
