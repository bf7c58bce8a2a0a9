"""Names in a CompVis checkpoint beside those of the networks' layers."""

import re
from collections.abc import Iterable

AUTOENCODER = "first_stage_model."
WRAPPED = "diffusion_model."
DENOISER = f"model.{WRAPPED}"
MAPPER = "cond_stage_model.channel_mapper.weight"
SCALE = "scale_factor"
AVERAGE = "model_ema."
DECAY, UPDATES = f"{AVERAGE}decay", f"{AVERAGE}num_updates"
COUNTERS = (DECAY, UPDATES)
"""Of the running average: how fast it forgets, and after how many updates it was saved."""
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
"""parameterization in CompVis' configs → diffusers' prediction_type."""
MEANINGLESS = re.compile(
    r"(first_stage_model\.)?(loss|lpips|perceptual_loss|discriminator)\..*"  # of the autoencoder's training
    r"|model_ema\.loss.*|first_stage_model\.model_ema\..*"  # the denoiser was trained on the live autoencoder's latents
    r"|logvar"
)


def averages(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Name of a live weight → name of its running average (`LitEma`): without dots, as the averaged module calls it.

    Args:
        prefix: of the averaged network: `DENOISER`, or that of an autoencoder alone.
    """
    owner = WRAPPED if prefix == DENOISER else ""
    return {name: AVERAGE + (owner + name.removeprefix(prefix)).replace(".", "") for name in names}
