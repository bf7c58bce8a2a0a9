"""The noise schedule's buffers in a CompVis checkpoint."""

import torch
from torch import Tensor

ALPHAS = "alphas_cumprod"
BUFFERS = (
    "betas",
    ALPHAS,
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)


def schedule_buffers(alphas_cumprod: Tensor) -> dict[str, Tensor]:
    """All of `BUFFERS`, (T,) float32, of ᾱ (T,) (Ho et al. 2020, eq. 7 for the posterior)."""
    alphas = alphas_cumprod.double()
    previous = torch.cat([torch.ones(1, dtype=alphas.dtype), alphas[:-1]])
    betas = 1 - alphas / previous
    variance = betas * (1 - previous) / (1 - alphas)
    values = (
        betas,
        alphas,
        previous,
        alphas.sqrt(),
        (1 - alphas).sqrt(),
        (1 - alphas).log(),
        (1 / alphas).sqrt(),
        (1 / alphas - 1).sqrt(),
        variance,
        variance.clamp(min=1e-20).log(),
        betas * previous.sqrt() / (1 - alphas),
        (1 - previous) * (1 - betas).sqrt() / (1 - alphas),
    )
    return dict(zip(BUFFERS, (value.float() for value in values), strict=True))
