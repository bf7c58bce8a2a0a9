"""What training adds to clean latents, and what a network's output then says of them."""

from dataclasses import dataclass
from typing import Self

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from ctp_ldm.networks.bridge import BrownianBridgeScheduler

SAME = 1e-3
"""How far signal and noise of two schedules may be apart: some of diffusers' samplers end a zero SNR at 2.4e-4."""


@dataclass(frozen=True)
class ForwardProcess:
    """x_t = a_t · x0 + s_t · ε, and conversions between the network's output and clean latents.

    With a = √ᾱ and s = √(1 − ᾱ) it is that of diffusion, and v = a·ε − s·x0 (Salimans & Ho 2022).

    kind: what the network puts out: "epsilon", "sample" (x0), "v_prediction", or a bridge's "displacement" (x_t − x0).
    signal, noise: (T,) a and s of each timestep.
    """

    kind: str
    signal: Tensor
    noise: Tensor

    @classmethod
    def of(cls, scheduler: SchedulerMixin) -> Self:
        """That of a schedule built by `build_scheduler`."""
        kind = scheduler.config["prediction_type"]
        if isinstance(scheduler, BrownianBridgeScheduler):
            return cls(kind, scheduler.signal, scheduler.noise)
        return cls.diffusion(kind, scheduler.alphas_cumprod)

    @classmethod
    def diffusion(cls, kind: str, alphas_cumprod: Tensor) -> Self:
        """That of ᾱ (T,)."""
        alphas = alphas_cumprod.float()
        return cls(kind, alphas.sqrt(), (1 - alphas).sqrt())

    @property
    def timesteps(self) -> int:
        """T."""
        return len(self.signal)

    def noisy(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t (B, C, h, w) of clean latents and noise of that shape, at timesteps (B,)."""
        a, s = self._coefficients(timesteps, clean)
        return a * clean + s * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should put out."""
        a, s = self._coefficients(timesteps, clean)
        match self.kind:
            case "epsilon":
                return noise
            case "sample":
                return clean
            case "v_prediction":
                return a * noise - s * clean
            case _:
                return (a - 1) * clean + s * noise

    def clean(self, output: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """x0 that an output implies, float32: noise prediction multiplies its error by s / a."""
        a, s = self._coefficients(timesteps, noisy)
        output, noisy = output.float(), noisy.float()
        match self.kind:
            case "epsilon":
                return (noisy - s * output) / a
            case "sample":
                return output
            case "v_prediction":
                return a * noisy - s * output
            case _:
                return noisy - output

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """(B,) weights of the squared error of the output: those that give the error of x0 the weight min(SNR, γ).

        Hang et al. 2023 (arXiv 2303.09556), with SNR = a²/s²: min(SNR, γ) for x0 (and a displacement, whose error is
        that of x0), / SNR for noise, / (SNR + 1) for v.
        """
        a, s = self._coefficients(timesteps, timesteps)
        snr = (a / s) ** 2
        capped = snr.clamp(max=gamma)
        match self.kind:
            case "epsilon":
                return capped / snr
            case "v_prediction":
                return capped / (snr + 1)
            case _:
                return capped

    def same_as(self, other: "ForwardProcess") -> bool:
        """Whether the same networks fit both."""
        return (
            self.kind == other.kind
            and self.timesteps == other.timesteps
            and torch.allclose(self.signal, other.signal, atol=SAME)
            and torch.allclose(self.noise, other.noise, atol=SAME)
        )

    def _coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        # float32: in half precision a near the end of the schedule rounds to 0.
        shape = (-1, *[1] * (like.ndim - 1))
        a, s = (c.to(like.device, torch.float32)[timesteps].view(shape) for c in (self.signal, self.noise))
        return a, s
