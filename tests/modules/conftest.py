"""A checkpoint of each stage, trained for a few steps, each from the one before."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from samples import ToyData, autoencoder, diffusion, optimizer, posttrain, random_batch, trainer

from ctp_ldm.callbacks import EMA
from ctp_ldm.losses import RegionError
from ctp_ldm.modules import TranslationModule
from ctp_ldm.sample import Sample

STEPS = 3
FITTED: dict[str, Any] = {"optimizer": optimizer(0.01), "lr_scheduler": lambda o: torch.optim.lr_scheduler.StepLR(o, 1)}


@pytest.fixture
def batch() -> Sample:
    return random_batch()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stage → file. All but the autoencoder were saved during training with averaged weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    files = {stage: folder / f"{stage}.ckpt" for stage in ("autoencoder", "diffusion", "posttrain")}
    first = autoencoder(**FITTED)
    second = diffusion(scale=False, **FITTED)
    third = posttrain(scale=False, terms=[RegionError("lesion", 0.1)], timestep_range=(0, 900), **FITTED)
    fit(first, files["autoencoder"], ema=False)
    second.init_from(files["autoencoder"])
    fit(second, files["diffusion"], ema=True)
    third.init_from(files["diffusion"])
    fit(third, files["posttrain"], ema=True)
    return files


def fit(module: TranslationModule, path: Path, ema: bool) -> None:
    saving = ModelCheckpoint(dirpath=path.parent, filename=path.stem, every_n_train_steps=STEPS)
    averaging = [EMA(decay=0.9)] if ema else []
    settings = {"max_steps": STEPS, "enable_checkpointing": True, "callbacks": [*averaging, saving]}
    torch.manual_seed(2)
    trainer(path.parent, **settings).fit(module, datamodule=ToyData(*(random_batch(seed=i) for i in range(STEPS))))
