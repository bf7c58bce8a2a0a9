"""Noise schedules from diffusers, and the three things that a denoiser can predict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from ctp_ldm.networks.build import ConfigError, build_component

PREDICTIONS = ("epsilon", "sample", "v_prediction")
SCHEDULERS = {
    name: getattr(diffusers, name)
    for name in (
        "DDIMScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
    )
}


def build_scheduler(config: Mapping[str, Any], steps: int) -> SchedulerMixin:
    """The schedule that training adds noise with and sampling removes it with.

    Args:
        config: diffusers' `scheduler_config.json`. `clip_sample` is false unless given: latents have no fixed range.
        steps: of sampling.

    Raises:
        ConfigError: settings that contradict one another.
    """
    settings: dict[str, Any] = dict(config)
    name = settings.get("_class_name")
    if name in ("DDIMScheduler", "DDPMScheduler"):
        settings.setdefault("clip_sample", False)
    scheduler = build_component("scheduler", settings, SCHEDULERS)
    found = scheduler.config
    prediction, spacing = found["prediction_type"], found["timestep_spacing"]
    zero_snr = bool(found.get("rescale_betas_zero_snr"))
    faults = []
    if prediction not in PREDICTIONS:
        faults.append(f"scheduler.prediction_type is {prediction!r}; expected one of {list(PREDICTIONS)}")
    if zero_snr and prediction == "epsilon":
        faults.append(
            "scheduler.rescale_betas_zero_snr with prediction_type epsilon: at the last timestep the input is pure "
            "noise and says nothing of the image, x0 = noise / 0; use v_prediction or sample"
        )
    if zero_snr and spacing != "trailing":
        faults.append(
            f"scheduler.rescale_betas_zero_snr with timestep_spacing {spacing!r}: sampling would start from pure noise "
            "at a timestep that never saw pure noise in training; use trailing"
        )
    if not 1 <= steps <= found["num_train_timesteps"]:
        faults.append(f"steps is {steps}; expected 1 to num_train_timesteps ({found['num_train_timesteps']})")
    elif name == "DDIMScheduler" and spacing == "trailing" and found["num_train_timesteps"] % steps:
        faults.append(
            f"steps is {steps}, which does not divide num_train_timesteps ({found['num_train_timesteps']}): with "
            "trailing spacing DDIM would not end at the clean image; use a divisor such as 5, 10, 20 or 50"
        )
    if faults:
        raise ConfigError("\n".join(faults))
    return scheduler


@dataclass(frozen=True)
class Prediction:
    """What the network's output means at given timesteps: conversions between output, noise, v and clean latents.

    With a = √ᾱ and s = √(1 − ᾱ): x_t = a·x0 + s·ε and v = a·ε − s·x0 (Salimans & Ho 2022).

    kind: "epsilon", "sample" (x0) or "v_prediction".
    alphas_cumprod: (T,) ᾱ of each timestep.
    """

    kind: str
    alphas_cumprod: Tensor

    def noisy(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t (B, C, h, w) of clean latents and noise of that shape, at timesteps (B,)."""
        a, s = self._coefficients(timesteps, clean)
        return a * clean + s * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should put out."""
        a, s = self._coefficients(timesteps, clean)
        return {"epsilon": noise, "sample": clean, "v_prediction": a * noise - s * clean}[self.kind]

    def clean(self, output: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """x0 that an output implies, float32: noise prediction multiplies its error by s / a."""
        a, s = self._coefficients(timesteps, noisy)
        output, noisy = output.float(), noisy.float()
        if self.kind == "sample":
            return output
        if self.kind == "v_prediction":
            return a * noisy - s * output
        return (noisy - s * output) / a

    def _coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        # float32: in half precision √ᾱ near the end of the schedule rounds to 0.
        alphas = self.alphas_cumprod.to(like.device, torch.float32)[timesteps].view(-1, *[1] * (like.ndim - 1))
        return alphas.sqrt(), (1 - alphas).sqrt()
