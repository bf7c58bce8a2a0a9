"""What is told before training starts."""

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import DENOISER, KL, ToyData, autoencoder, diffusion, optimizer, random_batch, trainer

from ctp_ldm.callbacks import EMA
from ctp_ldm.modules import TranslationModule
from ctp_ldm.runs import AtomicCheckpointIO
from ctp_ldm.runs.checks import checkpoint_bytes, require_space, require_validation
from ctp_ldm.runs.folder import RunFolderError

Usage = namedtuple("Usage", ["total", "used", "free"])


# -------------------------------------------------------------------------------------------------------- validation


def validating(folder: Path, **settings: Any) -> Any:
    return trainer(folder, **{"limit_val_batches": 1.0, "check_val_every_n_epoch": None, **settings})


@pytest.mark.parametrize(("interval", "steps", "accumulated"), [(11, 10, 1), (21, 10, 2)])
def test_a_run_that_ends_before_its_first_validation_is_refused(
    interval: int, steps: int, accumulated: int, tmp_path: Path
) -> None:
    run = validating(tmp_path, val_check_interval=interval, max_steps=steps, accumulate_grad_batches=accumulated)
    expected = (
        rf"val_check_interval is {interval} batches, but trainer\.max_steps {steps} are only {steps * accumulated}"
    )
    with pytest.raises(ValueError, match=expected):
        require_validation(run)


@pytest.mark.parametrize(
    "settings",
    [
        {"val_check_interval": 10, "max_steps": 10},
        {"val_check_interval": 20, "max_steps": 10, "accumulate_grad_batches": 2},
        {"val_check_interval": 11, "max_steps": 10, "limit_val_batches": 0},
        {"val_check_interval": 1.0, "max_steps": 10, "check_val_every_n_epoch": 1},
        {"val_check_interval": 11, "max_steps": -1, "max_epochs": 5},
        {"fast_dev_run": True},
    ],
)
def test_others_may_start(settings: dict[str, Any], tmp_path: Path) -> None:
    require_validation(validating(tmp_path, **settings))


# ------------------------------------------------------------------------------------------------------------- space


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> list[Path]:
    """A disk with so much space; returns the folders that were asked for."""
    asked: list[Path] = []

    def usage(path: Path) -> Usage:
        asked.append(path)
        return Usage(10 * size, 9 * size, size)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return asked


def test_a_disk_too_small_for_three_checkpoints_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "new"
    asked = free(monkeypatch, 2_999_999_999)
    with pytest.raises(RunFolderError) as refused:
        require_space(folder, 1_000_000_000)
    for part in (str(folder), "3 GB free", "expected 3 GB for checkpoints (3 of 1 GB", "default_root_dir"):
        assert part in str(refused.value)
    assert asked == [tmp_path]  # the folder itself is not there yet
    free(monkeypatch, 3_000_000_000)
    require_space(folder, 1_000_000_000)


def test_what_is_there_already_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / "checkpoints" / name).write_bytes(bytes(1000))
    free(monkeypatch, 1000)
    require_space(tmp_path, 1000)
    (tmp_path / "checkpoints" / "previous.ckpt").unlink()
    with pytest.raises(RunFolderError):
        require_space(tmp_path, 1000)


# -------------------------------------------------------------------------------------------------------------- size


BIG = {"block_out_channels": [64, 128], "norm_num_groups": 8}
"""Some million weights: the records of a file, a few hundred bytes for each tensor, are below 1 % of it."""


@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize(
    "make",
    [
        lambda: autoencoder({**KL, **BIG}, optimizer=optimizer(0.001)),
        lambda: diffusion({**KL, **BIG}, denoiser={**DENOISER, **BIG}, optimizer=optimizer(0.001)),
    ],
    ids=["autoencoder", "diffusion"],
)
def test_the_expected_size_is_that_of_a_written_checkpoint(make: Any, decay: float | None, tmp_path: Path) -> None:
    module: TranslationModule = make()
    expected = checkpoint_bytes(module, averaged=decay is not None)
    run = trainer(tmp_path, callbacks=[] if decay is None else [EMA(decay)], plugins=[AtomicCheckpointIO()])
    written = tmp_path / "last.ckpt"
    module.on_train_end = lambda: run.save_checkpoint(written)  # type: ignore[method-assign]
    run.fit(module, datamodule=ToyData(random_batch(1)))
    assert ("ema" in torch.load(written, weights_only=True)) == (decay is not None)
    assert expected == pytest.approx(written.stat().st_size, rel=0.05)
    assert expected > 10_000_000
