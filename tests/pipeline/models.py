"""One small model of each family, and what Lightning would save of it."""

from typing import Any

from samples import BEHIND_UNSHUFFLE, ENCODER, KL, SCHEDULER, SPACE_TO_DEPTH, VQ, diffusion

from ctp_ldm.modules import LatentDiffusionModule, TranslationModule

FAMILIES: dict[str, dict[str, Any]] = {
    "KL, DDIM": {"config": KL},
    "VQ, DDIM": {"config": VQ},
    "VQ, DDPM": {"config": VQ, "steps": 3, "scheduler": {**SCHEDULER, "_class_name": "DDPMScheduler"}},
    "KL, bridge": {"config": KL, "steps": 3, "scheduler": {"_class_name": "BrownianBridgeScheduler"}},
    "VQ, one step": {
        "config": VQ,
        "steps": 1,
        "noise": "zero",
        "timestep_range": (999, 1000),
        "scheduler": {**SCHEDULER, "prediction_type": "sample"},
    },
    "KL, one noise": {"config": KL, "noise": "fixed", "sampling_seed": 7},
    "KL, space to depth": {"config": KL, "condition": SPACE_TO_DEPTH},
    "VQ, encoder": {"config": VQ, "condition": ENCODER},
    "KL, bridge, encoder": {
        "config": KL,
        "steps": 3,
        "scheduler": {"_class_name": "BrownianBridgeScheduler"},
        "condition": ENCODER,
    },
    "KL behind unshuffle, encoder": {"config": BEHIND_UNSHUFFLE[0], "condition": ENCODER},
    "VQ behind unshuffle": {"config": BEHIND_UNSHUFFLE[1]},
}


def model(family: str, **changes: Any) -> LatentDiffusionModule:
    module: LatentDiffusionModule = diffusion(**{**FAMILIES[family], **changes}).eval()
    return module


def saved(module: TranslationModule) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "epoch": 4, "global_step": 90}
    module.on_save_checkpoint(checkpoint)
    return checkpoint
