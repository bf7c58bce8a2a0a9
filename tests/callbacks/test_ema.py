"""Averaged weights against the recursion worked out by hand."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from samples import VQ, ToyData, autoencoder, diffusion, optimizer, random_batch, trainer
from torch import Tensor

from ctp_ldm.callbacks import EMA
from ctp_ldm.modules import TranslationModule

WEIGHT = "denoiser.conv_in.weight"


class Recorder(L.Callback):
    """The trained weight after every step; what validation sees of it and of the latent scale."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self.validated: list[Tensor] = []
        self.sanity: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.steps.append(pl_module.state_dict()[WEIGHT].clone())

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        if trainer.sanity_checking:
            self.sanity.append(state)
        else:
            self.validated.append(state[WEIGHT])


def fit(module: TranslationModule, folder: Path, decay: float | None, steps: int, **settings: Any) -> Recorder:
    recorder = Recorder()
    averaging = [] if decay is None else [EMA(decay)]
    torch.manual_seed(0)
    run = trainer(folder, max_steps=steps, callbacks=[*averaging, recorder], **settings)
    run.fit(module, datamodule=ToyData(*(random_batch(seed=i) for i in range(steps))))
    return recorder


def average(steps: list[Tensor], decay: float) -> Tensor:
    """The first step's weights, then decay 2/11, 3/12, 4/13 … up to the given one."""
    mean = steps[0]
    for n, current in enumerate(steps[1:], start=1):
        rate = min(decay, (1 + n) / (10 + n))
        mean = rate * mean + (1 - rate) * current
    return mean


@pytest.mark.parametrize("decay", [0.9999, 0.2], ids=["warming up", "warmed up"])
def test_weights_are_averaged_with_a_decay_that_warms_up(decay: float, tmp_path: Path) -> None:
    module = diffusion(optimizer=optimizer(0.01))
    recorder = fit(module, tmp_path, decay, steps=5)
    expected = average(recorder.steps, decay)
    assert (expected - recorder.steps[-1]).abs().max() > 1e-4
    torch.testing.assert_close(module.state_dict()[WEIGHT], expected)


def test_frozen_weights_and_the_latent_scale_keep_every_bit(tmp_path: Path) -> None:
    module = diffusion(optimizer=optimizer(0.01))
    frozen = {k: v.clone() for k, v in module.state_dict().items() if not k.startswith("denoiser.")}
    fit(module, tmp_path, 0.9, steps=5)
    assert "latent_std" in frozen
    for name, value in frozen.items():
        assert torch.equal(module.state_dict()[name], value), name


def test_validation_uses_the_average_and_training_goes_on_without_it(tmp_path: Path) -> None:
    module = diffusion(optimizer=optimizer(0.01))
    settings = {"limit_val_batches": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}
    recorder = fit(module, tmp_path, 0.9, steps=4, **settings)
    torch.testing.assert_close(recorder.validated[0], average(recorder.steps[:2], 0.9))
    torch.testing.assert_close(recorder.validated[1], average(recorder.steps, 0.9))
    plain = fit(diffusion(optimizer=optimizer(0.01)), tmp_path, None, steps=4, **settings)
    for averaged, unaveraged in zip(recorder.steps, plain.steps, strict=True):
        torch.testing.assert_close(averaged, unaveraged)


class LateWeights(L.Callback):
    """Stands for whatever is loaded into the module after the average has been set up."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        torch.nn.init.constant_(pl_module.get_parameter(WEIGHT), 0.125)


def test_sanity_validation_sees_what_was_estimated_and_loaded_after_set_up(tmp_path: Path) -> None:
    module = diffusion(scale=False)
    module.base = tmp_path  # as after init_from
    recorder = Recorder()
    run = trainer(
        tmp_path,
        max_steps=1,
        num_sanity_val_steps=1,
        limit_val_batches=1,
        callbacks=[EMA(), LateWeights(), recorder],
    )
    run.fit(module, datamodule=ToyData(random_batch()))
    (seen,) = recorder.sanity
    assert seen["latent_std"].isfinite().all()
    assert (seen[WEIGHT] == 0.125).all()


def test_a_checkpoint_holds_the_average_and_training_resumes_from_the_current_weights(tmp_path: Path) -> None:
    """Resumed training ends where uninterrupted training does, in both. VQ, because its training has no randomness."""
    data = ToyData(*(random_batch(seed=i) for i in range(2)))
    straight, first, resumed = (autoencoder(VQ, optimizer=optimizer(0.01)) for _ in range(3))

    def run(module: TranslationModule, name: str, steps: int, **arguments: Any) -> dict[str, Any]:
        saving = ModelCheckpoint(dirpath=tmp_path, filename=name, every_n_train_steps=steps)
        settings = {"max_steps": steps, "enable_checkpointing": True, "callbacks": [EMA(0.9), saving]}
        trainer(tmp_path, **settings).fit(module, datamodule=data, weights_only=True, **arguments)
        return torch.load(tmp_path / f"{name}.ckpt", weights_only=True)

    half = run(first, "half", 2)
    whole = run(straight, "whole", 4)
    again = run(resumed, "again", 4, ckpt_path=tmp_path / "half.ckpt")
    name = "autoencoder.net.encoder.conv_in.weight"
    assert not torch.equal(half["state_dict"][name], half["ema"]["weights"][name])
    for found, expected in (
        (again["state_dict"], whole["state_dict"]),
        (again["ema"]["weights"], whole["ema"]["weights"]),
    ):
        for weight, value in expected.items():
            assert torch.equal(found[weight], value), weight


def test_a_checkpoint_holds_each_frozen_weight_once(tmp_path: Path) -> None:
    module = diffusion(optimizer=optimizer(0.01))
    saving = ModelCheckpoint(dirpath=tmp_path, filename="two", every_n_train_steps=2)
    run = trainer(tmp_path, max_steps=2, enable_checkpointing=True, callbacks=[EMA(0.9), saving])
    run.fit(module, datamodule=ToyData(*(random_batch(seed=i) for i in range(2))))
    content = torch.load(tmp_path / "two.ckpt", weights_only=True)
    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    assert any(name.startswith("autoencoder.") for name in content["state_dict"])
    assert set(content["ema"]["weights"]) == trained
    assert all(name.startswith("denoiser.") for name in trained)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_that_averages_nothing_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="expected 0 ≤ decay < 1"):
        EMA(decay)


def test_averaged_checkpoints_can_be_tested_with_the_callback_in_place(tmp_path: Path) -> None:
    module = autoencoder(optimizer=optimizer(0.01))
    run = trainer(tmp_path, callbacks=[EMA(0.9)])
    run.fit(module, datamodule=ToyData(random_batch()))
    run.save_checkpoint(tmp_path / "best.ckpt")
    fresh = autoencoder()
    trainer(tmp_path, callbacks=[EMA(0.9)]).test(
        fresh, datamodule=ToyData(random_batch()), ckpt_path=tmp_path / "best.ckpt", weights_only=True, verbose=False
    )
    for found, expected in zip(fresh.parameters(), module.parameters(), strict=True):
        assert torch.equal(found, expected)
