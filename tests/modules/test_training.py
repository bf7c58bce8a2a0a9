"""Whole trainings in small: schedules, the autoencoder's gate, and what post-training does to lesions."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from samples import (
    KL,
    SPEC,
    VQ,
    ToyData,
    autoencoder,
    brain_mask,
    diffusion,
    optimizer,
    posttrain,
    random_batch,
    trainer,
)
from torch import Tensor
from torch.nn import functional as F

from ctp_ldm.losses import RegionError
from ctp_ldm.modules import AutoencoderModule, TranslationModule
from ctp_ldm.sample import Sample


def test_the_learning_rate_follows_optimiser_steps(tmp_path: Path) -> None:
    """Not epochs, nor batches: here two batches make a step, and all four an epoch."""
    module = autoencoder(
        optimizer=optimizer(1.0), lr_scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=1, gamma=0.1)
    )
    run = trainer(tmp_path, max_steps=3, accumulate_grad_batches=2)
    run.fit(module, datamodule=ToyData(*(random_batch(seed=i) for i in range(4))))
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3)


class OffBy(AutoencoderModule):
    """Reconstructs ADC with a constant error, in 10⁻⁶ mm²/s."""

    error = 0.0

    def synthesise(self, batch: Sample) -> Tensor:
        return batch["target"] + torch.tensor([0.0, self.error / 1500]).view(1, 2, 1, 1)


def fit_off_by(error: float, folder: Path, lesion: bool = True) -> tuple[dict[str, Tensor], list[str]]:
    module = OffBy(SPEC.to_plain(), KL)
    module.error = error
    run = trainer(folder, max_steps=1, limit_val_batches=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.fit(module, datamodule=ToyData(random_batch(lesion=lesion)))
    return dict(run.callback_metrics), [str(w.message) for w in caught if "above the gate" in str(w.message)]


def test_an_autoencoder_that_blurs_lesion_adc_warns_before_diffusion_is_trained(tmp_path: Path) -> None:
    _, warned = fit_off_by(34.0, tmp_path)
    assert len(warned) == 1
    assert "lesion ADC error is 34" in warned[0]


@pytest.mark.parametrize(("error", "lesion"), [(26.0, True), (100.0, False)], ids=["below", "no lesion to judge by"])
def test_no_warning_below_the_gate(error: float, lesion: bool, tmp_path: Path) -> None:
    assert fit_off_by(error, tmp_path, lesion)[1] == []


def test_validation_logs_physical_errors_and_the_balanced_one(tmp_path: Path) -> None:
    logged, _ = fit_off_by(26.0, tmp_path)  # less where the sum leaves the range of 0–3000
    assert logged["val/brain_mae_adc"].item() == pytest.approx(26, rel=1e-2)
    assert logged["val/lesion_mae_adc"].item() == pytest.approx(26, rel=1e-2)
    assert logged["val/brain_mae_dwi"].item() == pytest.approx(0, abs=1e-6)
    assert logged["val/balanced_mae"].item() == pytest.approx(26 / 3000 / 2, rel=1e-2)


def test_resumed_training_ends_where_uninterrupted_training_does(tmp_path: Path) -> None:
    """A VQ autoencoder, because its training has no randomness."""
    data = ToyData(*(random_batch(seed=i) for i in range(2)))
    straight, first, second = (autoencoder(VQ, optimizer=optimizer(0.01)) for _ in range(3))
    trainer(tmp_path, max_steps=4).fit(straight, datamodule=data)
    saving = ModelCheckpoint(dirpath=tmp_path, filename="half", every_n_train_steps=2)
    trainer(tmp_path, max_steps=2, enable_checkpointing=True, callbacks=[saving]).fit(first, datamodule=data)
    trainer(tmp_path, max_steps=4).fit(second, datamodule=data, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for (name, expected), found in zip(straight.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)
    assert not torch.equal(first.autoencoder.net.encoder.conv_in.weight, second.autoencoder.net.encoder.conv_in.weight)


def train(module: TranslationModule, batch: Sample, steps: int, lr: float) -> None:
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW((p for p in module.parameters() if p.requires_grad), lr)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.stack(list(module.loss(batch).values())).sum().backward()
        optimiser.step()


def lesion_error(module: TranslationModule, batch: Sample) -> float:
    with torch.no_grad():
        error = (module.synthesise(batch) - batch["target"]).abs() * batch["lesion"]
    return float(error.sum() / batch["lesion"].sum() / 2)


@pytest.fixture
def stroke() -> Sample:
    """Four slices to overfit: smooth tissue, a lesion bright on DWI and dark on ADC, and a source that shows both."""
    batch = random_batch()
    tissue = F.avg_pool2d(batch["target"], 5, stride=1, padding=2)
    contrast = torch.tensor([0.9, -0.4]).view(1, 2, 1, 1)
    batch["target"] = torch.where(brain_mask() > 0, 0.3 * tissue - 0.3 + contrast * batch["lesion"], -1.0)
    batch["source"] = torch.cat([batch["target"][:, :1], tissue], dim=1) + 0.1 * batch["source"]
    return batch


def test_lesion_aware_post_training_lowers_the_lesion_error_more_than_the_equally_long_control(stroke: Sample) -> None:
    first = autoencoder(regulariser_weight=1e-5)
    train(first, stroke, steps=80, lr=1e-2)
    base = diffusion(scale=False)
    base.autoencoder.load_state_dict(first.autoencoder.state_dict())
    base.estimate_latent_scale([stroke])
    train(base, stroke, steps=30, lr=3e-3)
    errors: dict[Any, float] = {}
    for name, terms in (("control", []), ("lesion-aware", [RegionError("lesion", weight=10.0)])):
        module = posttrain(scale=False, terms=terms)
        module.load_state_dict(base.state_dict())
        train(module, stroke, steps=60, lr=1e-3)
        errors[name] = lesion_error(module, stroke)
    # By 14–33 % on other seeds and processors; how far exactly depends on the order of sums.
    assert errors["lesion-aware"] < 0.97 * errors["control"]
    assert errors["lesion-aware"] < 0.97 * lesion_error(base, stroke)
