"""From nothing to latents: the loop that a LightningModule and a diffusers pipeline share."""

import inspect
import zlib
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

Noise = Literal["random", "fixed", "zero"]
"""What sampling starts from: noise of each slice's own, the same noise for all slices, or none."""


def slice_generators(seed: int, cases: Iterable[str], slice_indices: Iterable[int]) -> list[torch.Generator]:
    """A generator for each slice, the same whatever batch or process the slice comes in."""
    keys = zip(cases, slice_indices, strict=True)
    seeds = [zlib.crc32(f"{seed}/{case}/{index}".encode()) for case, index in keys]
    return [torch.Generator().manual_seed(number) for number in seeds]


def initial_noise(
    kind: Noise, generators: list[torch.Generator], seed: int, shape: tuple[int, int, int], device: torch.device
) -> Tensor:
    """(B, *shape) of which sampling starts, one for each generator.

    Args:
        kind: see `Noise`.
        generators: of the slices; "random" draws from them.
        seed: of "fixed".
        shape: (Cz, h, w).
    """
    if kind == "zero":
        return torch.zeros(len(generators), *shape, device=device)
    if kind == "fixed":
        return fixed_noise(seed, shape, device).expand(len(generators), -1, -1, -1)
    return torch.cat([torch.randn(1, *shape, generator=g) for g in generators]).to(device)


def training_noise(kind: Noise, seed: int, latents: Tensor) -> Tensor:
    """What latents (B, Cz, h, w) are mixed with in training; drawn from the global generator where it is random."""
    if kind == "zero":
        return torch.zeros_like(latents)
    if kind == "fixed":
        channels, height, width = latents.shape[1:]
        return fixed_noise(seed, (channels, height, width), latents.device).expand_as(latents)
    return torch.randn_like(latents)


def fixed_noise(seed: int, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Standard normal (1, Cz, h, w), the same on every device."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed)).to(device)


def sample_latents(
    predict: Callable[[Tensor, Tensor], Tensor],
    scheduler: SchedulerMixin,
    steps: int,
    noise: Tensor,
    generators: list[torch.Generator],
) -> Tensor:
    """Run a schedule from its beginning to clean latents (B, Cz, h, w).

    Args:
        predict: noisy latents and timesteps (B,) → the network's output.
        noise: (B, Cz, h, w) standard normal, or what takes its place.
        generators: of the slices, for samplers that add noise of their own.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    # Stochastic samplers draw from the slice's own generator, never from the global one.
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generators} if takes_generator else {}
    for timestep in scheduler.timesteps:
        output = predict(latents, timestep.expand(len(latents)))
        latents = scheduler.step(output, timestep, latents, **extra).prev_sample
    return latents
