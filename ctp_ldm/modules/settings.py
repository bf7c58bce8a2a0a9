"""Settings of a latent model that contradict one another, told before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from diffusers import UNet2DModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ctp_ldm.networks import BrownianBridgeScheduler, ConfigError, ForwardProcess, Noise


@dataclass(frozen=True)
class NoiseSettings:
    """How a latent model is trained at noise and sampled; see the arguments of `LatentDiffusionModule`."""

    forward: ForwardProcess
    scheduler: SchedulerMixin
    steps: int
    noise: Noise
    timestep_range: tuple[int, int]
    min_snr_gamma: float | None
    samples: int


def require_divisible_size(size: Sequence[int], factor: int, denoiser: UNet2DModel) -> None:
    """Refuse images that autoencoder and denoiser cannot halve as often as they do.

    Args:
        size: (H, W) of the data.
        factor: of the autoencoder, image pixels per latent pixel along each axis.

    Raises:
        ConfigError
    """
    own = 2 ** (len(denoiser.config["block_out_channels"]) - 1)
    whole = factor * own
    if any(n % whole for n in size):
        raise ConfigError(
            f"data.size {list(size)} is not divisible by {whole} (autoencoder {factor} × denoiser {own}); choose "
            f"multiples of {whole}"
        )


def require_sensible(settings: NoiseSettings, scale_factor: float | None, lesion_weight: float) -> None:
    """Refuse what cannot be trained, or sampled as it was trained.

    Raises:
        ConfigError: listing all of it.
    """
    is_bridge = isinstance(settings.scheduler, BrownianBridgeScheduler)
    low, high = settings.timestep_range
    total = settings.forward.timesteps
    faults = []
    if not 0 <= low < high <= total:
        faults.append(f"timestep_range is {[low, high]}; expected 0 ≤ first < end ≤ {total}")
    if settings.min_snr_gamma is not None:
        if not settings.min_snr_gamma > 0:
            faults.append(f"min_snr_gamma is {settings.min_snr_gamma}; expected above 0, such as 5")
        elif not (settings.forward.signal[low:high] > 0).all():
            faults.append(
                "min_snr_gamma with zero terminal SNR gives weight 0 to the last timestep, where sampling starts; "
                "set one of min_snr_gamma: null and scheduler.rescale_betas_zero_snr: false"
            )
    if scale_factor is not None and (is_bridge or not scale_factor > 0):
        faults.append(f"scale_factor is {scale_factor}; expected above 0 and no bridge, or null for an estimated scale")
    if not lesion_weight >= 0:
        faults.append(f"lesion_weight is {lesion_weight}; expected at least 0")
    if settings.samples < 1:
        faults.append(f"samples is {settings.samples}; expected 1 or more")
    elif settings.samples > 1 and (settings.noise != "random" or (is_bridge and settings.scheduler.config["eta"] == 0)):
        faults.append(f"samples is {settings.samples} of a model without randomness; expected 1: all would be the same")
    if settings.noise != "random":
        faults += _faults_without_noise(settings, is_bridge)
    if faults:
        raise ConfigError("\n".join(faults))


def _faults_without_noise(settings: NoiseSettings, is_bridge: bool) -> list[str]:
    """Of training and sampling that do not begin in random noise, as one-step models do."""
    faults = []
    if is_bridge:
        faults.append(f"noise is {settings.noise!r} with a bridge, which has its own start; expected 'random'")
    if settings.forward.kind == "epsilon":
        faults.append(
            f"noise is {settings.noise!r} with scheduler.prediction_type epsilon: there would be no noise to "
            "predict; use sample or v_prediction"
        )
    low, high = settings.timestep_range
    total = settings.forward.timesteps
    settings.scheduler.set_timesteps(settings.steps)
    untrained = [t for t in settings.scheduler.timesteps.tolist() if not low <= t < high]
    if untrained:
        faults.append(
            f"with noise {settings.noise!r}, {settings.steps} sampling steps visit timesteps that are not trained "
            f"({untrained[:3]}); expected steps and timestep_range that agree, such as steps: 1 and "
            f"timestep_range: [{total - 1}, {total}]"
        )
    return faults
