"""Noise schedules: diffusers' own and the Brownian bridge, built from a config."""

from collections.abc import Mapping
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ctp_ldm.networks.bridge import BrownianBridgeScheduler
from ctp_ldm.networks.build import ConfigError, build_component

DIFFUSION = ("epsilon", "sample", "v_prediction")
BRIDGE = ("displacement", "sample", "epsilon")
SCHEDULERS: dict[str, type] = {
    **{
        name: getattr(diffusers, name)
        for name in (
            "DDIMScheduler",
            "DDPMScheduler",
            "DPMSolverMultistepScheduler",
            "UniPCMultistepScheduler",
        )
    },
    "BrownianBridgeScheduler": BrownianBridgeScheduler,
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
    known = BRIDGE if isinstance(scheduler, BrownianBridgeScheduler) else DIFFUSION
    faults = []
    if prediction not in known:
        faults.append(f"scheduler.prediction_type is {prediction!r}; {name} expects one of {list(known)}")
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
