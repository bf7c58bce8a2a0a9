"""The shipped full-size networks with random weights, and random images for them: `from shipped import …`."""

from pathlib import Path
from typing import Any

import torch
import yaml

from ctp_ldm.configuration import shipped_configs
from ctp_ldm.data import CTPToDiffusionMRI
from ctp_ldm.losses import RegionError
from ctp_ldm.modules import AutoencoderModule, LatentDiffusionModule, LesionAwarePostTraining
from ctp_ldm.modules.base import TranslationModule
from ctp_ldm.sample import Sample
from ctp_ldm.spec import DataSpec

STAGES: dict[str, type[TranslationModule]] = {
    "autoencoder": AutoencoderModule,
    "diffusion": LatentDiffusionModule,
    "posttrain": LesionAwarePostTraining,
}


def build(stage: str, **changes: Any) -> tuple[Any, int]:
    """A stage's module as its config (name or published/name) has it, but for changes; and the config's batch size."""
    config = yaml.safe_load((shipped_configs() / f"{stage}.yaml").read_text())
    data = config["data"]["init_args"]
    arguments = {k: v for k, v in config["model"]["init_args"].items() if k != "optimizer"} | changes
    if "terms" in arguments:
        arguments["terms"] = [RegionError(**term["init_args"]) for term in arguments["terms"]]
    spec = CTPToDiffusionMRI().task.spec(data["spacing"], tuple(data["size"]))
    torch.manual_seed(0)
    module = STAGES[Path(stage).name](spec.to_plain(), **arguments)
    if isinstance(module, LatentDiffusionModule):  # as if estimated, so that it may train
        module.latent_mean.zero_()
        module.latent_std.fill_(1.0)
    return module, data["batch_size"]


def random_images(spec: DataSpec, slices: int, device: str = "cpu") -> Sample:
    """Noise in [−1, 1], all of it brain and a tenth of it lesion."""

    def noise(channels: int) -> torch.Tensor:
        return torch.rand(slices, channels, *spec.size, device=device) * 2 - 1

    return {
        "source": noise(len(spec.source)),
        "target": noise(len(spec.target)),
        "brain": torch.ones(slices, 1, *spec.size, device=device),
        "lesion": (noise(1) > 0.8).float(),
        "case": ["a"] * slices,
        "slice_index": torch.arange(slices, device=device),
    }
