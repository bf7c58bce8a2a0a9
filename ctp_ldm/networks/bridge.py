"""The Brownian bridge as a schedule with the face of diffusers' own."""

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

ENDS = (0.001, 0.999)
"""m of the first and the last timestep in LBBDM's code: neither end of the bridge is quite reached."""


@dataclass
class BridgeOutput(BaseOutput):
    """What a sampling step gives.

    prev_sample: (B, C, h, w) at the next smaller timestep.
    pred_original_sample: the clean residual that the network's output implies.
    """

    prev_sample: Tensor
    pred_original_sample: Tensor


class BrownianBridgeScheduler(SchedulerMixin, ConfigMixin):
    """Brownian bridge diffusion (BBDM, Li et al. 2023, arXiv 2205.07680), between an image and its source.

    BBDM has x_t = (1 − m_t) x_0 + m_t y + √δ_t ε with δ_t = 2 s (m_t − m_t²), from the image x_0 to the source's
    latents y. This is that process for the residual u = x − y: u_t = (1 − m_t) u_0 + √δ_t ε, which starts from zero and
    need not know y.

    Args:
        num_train_timesteps: T; m rises from 0.001 to 0.999 in as many steps.
        max_variance: s; the variance in the middle of the bridge is s / 2.
        prediction_type: "displacement" (u_t − u_0, BBDM's own), "sample" (u_0) or "epsilon".
        eta: 1 for BBDM's stochastic sampling, 0 for none.
        timestep_spacing: "trailing": sampling begins at the last timestep.
    """

    order = 1
    init_noise_sigma = 0.0
    """Sampling starts at the source."""

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        max_variance: float = 1.0,
        prediction_type: str = "displacement",
        eta: float = 1.0,
        timestep_spacing: str = "trailing",
    ) -> None:
        if num_train_timesteps < 2:
            raise ValueError(f"num_train_timesteps is {num_train_timesteps}; expected at least 2")
        if not max_variance > 0 or not 0 <= eta <= 1:
            raise ValueError(
                f"max_variance is {max_variance} and eta {eta}; expected a variance above 0 and eta from 0 to 1"
            )
        if timestep_spacing != "trailing":
            raise ValueError(f"timestep_spacing is {timestep_spacing!r}; expected 'trailing', the only one of a bridge")
        m = torch.linspace(*ENDS, num_train_timesteps, dtype=torch.float64)
        self.signal = (1 - m).float()
        self.noise = (2 * max_variance * (m - m**2)).sqrt().float()
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1)

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Choose the timesteps of sampling, evenly spaced, the last of training first."""
        total = self.config["num_train_timesteps"]
        self.timesteps = torch.arange(total, 0, -total / num_inference_steps).round().long().to(device) - 1

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | int,
        sample: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> BridgeOutput:
        """One step back, BBDM's eq. 13 for the residual.

        Args:
            model_output: of the network, (B, C, h, w).
            timestep: one of `timesteps`.
            sample: u_t of that timestep.
            generator: of the noise, where eta is above 0.
        """
        place = int((self.timesteps == int(timestep)).nonzero()[0])
        a, s = self.signal[int(timestep)].item(), self.noise[int(timestep)].item()
        clean = self._clean(model_output, sample, a, s)
        if place + 1 == len(self.timesteps):
            return BridgeOutput(prev_sample=clean, pred_original_sample=clean)
        following = int(self.timesteps[place + 1])
        a_next, s_next = self.signal[following].item(), self.noise[following].item()
        added = (s**2 - s_next**2 * (a / a_next) ** 2) * s_next**2 / s**2
        deviation = self.config["eta"] * max(added, 0.0) ** 0.5
        kept = max(s_next**2 - deviation**2, 0.0) ** 0.5 / s
        previous = a_next * clean + kept * (sample - a * clean)
        if deviation > 0:
            fresh = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
            previous = previous + deviation * fresh
        return BridgeOutput(prev_sample=previous, pred_original_sample=clean)

    def _clean(self, output: Tensor, sample: Tensor, a: float, s: float) -> Tensor:
        kind = self.config["prediction_type"]
        if kind == "sample":
            return output
        return sample - output if kind == "displacement" else (sample - s * output) / a
