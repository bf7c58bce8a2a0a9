"""What is where in a folder, and what the same things are called in a checkpoint.

FOLDER/
  model_index.json        the pipeline's parts and their classes; absent where there is an autoencoder alone
  autoencoder/            config.json, diffusion_pytorch_model.safetensors: diffusers' VQModel or AutoencoderKL
  denoiser/               the same: UNet2DModel
  condition/              the same: ConditionEncoder; absent where the condition has no weights
  scheduler/              scheduler_config.json
  latents.safetensors     mean and std of each latent channel; source_map and source_shift of a bridge
  ctp_ldm.json            version, stage, channels with scalings and units, grid, how to sample; what diffusers' classes
                          do not know: pixels that become channels before the autoencoder, a condition without weights
"""

from typing import Any

from diffusers import UNet2DModel

from ctp_ldm.networks import ConditionEncoder
from ctp_ldm.networks.autoencoder import AUTOENCODERS, UNSHUFFLE

INDEX, RECORD, LATENTS = "model_index.json", "ctp_ldm.json", "latents.safetensors"
PIPELINE = "CTPLDMPipeline"
AUTOENCODER, DENOISER, SCHEDULER, CONDITION = "autoencoder", "denoiser", "scheduler", "condition"
STAGES = {
    "autoencoder": (AUTOENCODER,),
    "diffusion": (AUTOENCODER, DENOISER, SCHEDULER),
    "posttrain": (AUTOENCODER, DENOISER, SCHEDULER),
}
CLASSES: dict[str, dict[str, type[Any]]] = {
    AUTOENCODER: AUTOENCODERS,
    DENOISER: {"UNet2DModel": UNet2DModel},
    CONDITION: {"ConditionEncoder": ConditionEncoder},
}
PREFIXES = {AUTOENCODER: "autoencoder.net.", DENOISER: "denoiser.", CONDITION: "condition."}
"""Of a network's weights in a checkpoint."""
MOMENTS = {"mean": "latent_mean", "std": "latent_std"}
BRIDGE = {"source_map": "source_map", "source_shift": "source_shift"}
"""Names in latents.safetensors → names in a checkpoint."""
SCALE_SETTINGS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
"""In diffusers' config of an autoencoder; nothing here computes with them, other code that reads the folder does."""
NOT_IN_CONFIG = (*SCALE_SETTINGS, UNSHUFFLE)
"""Settings of an autoencoder for which its config.json is not to be asked: it says the latents' real scale instead of
the checkpoint's, and nothing of what comes before the network, which diffusers' classes do not know."""
OWN_SETTINGS = "autoencoder_settings"
"""Under it ctp_ldm.json has those of the checkpoint."""
OBJECTIVE = ("terms.", "discriminator.")
"""Weights in a checkpoint that belong to what was optimised, not to the model: no folder has them."""
NOTICE = "images of this model are synthetic, for research use"
