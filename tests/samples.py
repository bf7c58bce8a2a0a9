"""Tiny data and networks for tests of the model side: `from samples import …`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ctp_ldm.forms import Forms
from ctp_ldm.geometry import Geometry
from ctp_ldm.modules import AutoencoderModule, LatentDiffusionModule, LesionAwarePostTraining, SegmenterModule
from ctp_ldm.sample import Sample
from ctp_ldm.scaling import Linear
from ctp_ldm.spec import Channel, DataSpec

SIZE = (16, 24)
SPEC = DataSpec(
    source=tuple(Channel(f"ctp_{i}", Linear("HU", 0.0, 80.0)) for i in range(3)),
    target=(Channel("dwi", Linear("relative", 0.0, 4.0)), Channel("adc", Linear("10⁻⁶ mm²/s", 0.0, 3000.0))),
    spacing=3.0,
    size=SIZE,
)
_AUTOENCODER: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "latent_channels": 3,
    "norm_num_groups": 4,
    "mid_block_add_attention": False,
}
KL = {"_class_name": "AutoencoderKL", **_AUTOENCODER}
VQ = {"_class_name": "VQModel", "num_vq_embeddings": 32, **_AUTOENCODER}
ONE_LEVEL: dict[str, Any] = {
    "block_out_channels": [8],
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
}
BEHIND_UNSHUFFLE = [{**KL, **ONE_LEVEL, "unshuffle": 2}, {**VQ, **ONE_LEVEL, "unshuffle": 2}]
"""KL and VQ of the same factor, 2, by pixel-unshuffle."""
PIXELS = {"_class_name": "PixelSpace"}
SPACE_TO_DEPTH = {"_class_name": "SpaceToDepth"}
ENCODER = {"_class_name": "ConditionEncoder", "block_out_channels": [8], "norm_num_groups": 4}
"""For factor 2, which all of these have."""
DENOISER: dict[str, Any] = {
    "_class_name": "UNet2DModel",
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D"] * 2,
    "up_block_types": ["UpBlock2D"] * 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}
SEGMENTER: dict[str, Any] = {"_class_name": "UNet", "channels": [8, 16], "strides": [2]}
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
NOISE_PREDICTION = {
    **SCHEDULER,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "timestep_spacing": "leading",
}


def brain_mask() -> Tensor:
    """(H, W): an ellipse that leaves a margin."""
    x, y = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")
    return ((x / 0.9) ** 2 + (y / 0.9) ** 2 < 1).float()


def random_batch(size: int = 4, seed: int = 0, lesion: bool = True, case: str = "case") -> Sample:
    """Noise in [−1, 1] with a lesion of 4 × 6 voxels in every slice, or with an empty lesion mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(size, 1, *SIZE)
    if lesion:
        mask[:, :, 6:10, 8:14] = 1
    return {
        "source": torch.rand(size, len(SPEC.source), *SIZE, generator=generator) * 2 - 1,
        "target": torch.rand(size, len(SPEC.target), *SIZE, generator=generator) * 2 - 1,
        "brain": brain_mask().expand(size, 1, *SIZE).clone(),
        "lesion": mask,
        "case": [case] * size,
        "slice_index": torch.arange(size),
    }


def select(batch: Sample, slices: list[int]) -> Sample:
    """Some slices of a batch, in the given order."""
    chosen: dict[str, Any] = {
        k: v[slices] if isinstance(v, Tensor) else [v[i] for i in slices] for k, v in batch.items()
    }
    return chosen  # type: ignore[return-value]


def autoencoder(config: dict[str, Any] = KL, **arguments: Any) -> AutoencoderModule:
    torch.manual_seed(1)
    return AutoencoderModule(SPEC.to_plain(), config, **arguments)


def diffusion(config: dict[str, Any] = KL, scale: bool = True, **arguments: Any) -> LatentDiffusionModule:
    """With random weights, and with the latent scale of a random batch unless `scale` is False."""
    return _with_scale(LatentDiffusionModule, config, scale, arguments)


def posttrain(config: dict[str, Any] = KL, scale: bool = True, **arguments: Any) -> LesionAwarePostTraining:
    """The same weights as `diffusion`."""
    return _with_scale(LesionAwarePostTraining, config, scale, arguments)


def segmenter(**arguments: Any) -> SegmenterModule:
    torch.manual_seed(1)
    return SegmenterModule(SPEC.to_plain(), SEGMENTER, **arguments)


def _with_scale(make: Callable[..., Any], config: dict[str, Any], scale: bool, arguments: dict[str, Any]) -> Any:
    torch.manual_seed(1)
    module = make(SPEC.to_plain(), config, **{"denoiser": DENOISER, "scheduler": SCHEDULER, "steps": 2, **arguments})
    if scale:
        module.estimate_latent_scale([random_batch(seed=99)])
    return module


class ToyData(L.LightningDataModule):
    """Given batches for every stage; every case lies on the same oblique grid."""

    def __init__(self, *batches: Sample, depth: int = 6) -> None:
        super().__init__()
        self.spec = SPEC
        self.batches, self.depth = list(batches), depth

    def train_dataloader(self) -> DataLoader[Sample]:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader

    def slices_with_brain(self, case: str) -> int:
        keys = {(name, int(i)) for b in self.batches for name, i in zip(b["case"], b["slice_index"], strict=True)}
        return sum(name == case for name, _ in keys)

    def geometry(self, case: str) -> Geometry:
        """The file is stored LAS and tilted; its in-plane voxels are the grid's, its slices 5 mm apart."""
        rows = tuple(tuple(float(v) for v in row) for row in oblique_las())
        return Geometry(
            affine=rows,
            shape=(SIZE[0], SIZE[1], self.depth),
            spacing=SPEC.spacing,
            size=SIZE,
            origin=(0.0, 0.0),
            slices=self.depth,
            forms=Forms(rows, rows, (1, 3)),
        )


class SlabData(ToyData):
    """The file's slices are 1.25 mm apart; the model sees slabs of 5 mm."""

    def geometry(self, case: str) -> Geometry:
        whole = super().geometry(case)
        affine = np.array(whole.affine) @ np.diag([1, 1, 0.25, 1])
        rows = tuple(tuple(float(v) for v in row) for row in affine)
        return replace(whole, affine=rows, forms=Forms(rows, rows, (1, 3)), shape=(*SIZE, 4 * self.depth))


def oblique_las(degrees: float = 12.0) -> np.ndarray:
    """Voxel → mm of a volume whose first axis runs to the left, tilted about that axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag([SPEC.spacing, SPEC.spacing, 5.0])
    affine[:3, 3] = [40.0, -30.0, 12.0]
    return affine


def trainer(folder: Path, **settings: Any) -> L.Trainer:
    """Quiet, on the CPU, and without files unless asked for."""
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    small = {"accelerator": "cpu", "devices": 1, "num_sanity_val_steps": 0, "limit_val_batches": 0, "max_steps": 2}
    return L.Trainer(default_root_dir=folder, **{**quiet, **small, **settings})


def optimizer(lr: float) -> Callable[..., torch.optim.Optimizer]:
    return lambda parameters: torch.optim.AdamW(parameters, lr=lr)
