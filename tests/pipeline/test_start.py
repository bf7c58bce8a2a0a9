"""A stage starts from a folder as it does from the checkpoint, and refuses one that does not fit before training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import (
    DENOISER,
    KL,
    NOISE_PREDICTION,
    SCHEDULER,
    SPEC,
    VQ,
    ToyData,
    autoencoder,
    diffusion,
    optimizer,
    posttrain,
    random_batch,
    trainer,
)

from ctp_ldm.losses import RegionError
from ctp_ldm.modules import LatentDiffusionModule, LesionAwarePostTraining, TranslationModule
from ctp_ldm.pipeline import write_folder
from ctp_ldm.runs import CheckpointError
from ctp_ldm.scaling import Linear
from ctp_ldm.spec import SpecMismatch

from .models import model, saved


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Of a latent model with VQ."""
    write_folder(saved(model("VQ, DDIM")), tmp_path / "base")
    return tmp_path / "base"


def fitted(module: TranslationModule, base: Path, folder: Path) -> dict[str, torch.Tensor]:
    module.init_from(base)
    torch.manual_seed(3)
    trainer(folder).fit(module, datamodule=ToyData(random_batch(seed=1), random_batch(seed=2)))
    return module.state_dict()


@pytest.mark.parametrize("stage", ["diffusion", "posttrain"])
def test_training_from_a_folder_is_training_from_the_checkpoint(stage: str, tmp_path: Path) -> None:
    source = {"diffusion": lambda: autoencoder(VQ), "posttrain": lambda: model("VQ, DDIM")}[stage]()
    torch.save(saved(source), tmp_path / "base.ckpt")
    write_folder(saved(source), tmp_path / "base")

    def stage_two() -> TranslationModule:
        learning: dict[str, Any] = {"scale": False, "optimizer": optimizer(0.01)}
        if stage == "diffusion":
            return diffusion(VQ, **learning)
        return posttrain(VQ, terms=[RegionError("lesion", 0.1)], **learning)

    ours, theirs = (fitted(stage_two(), tmp_path / name, tmp_path) for name in ("base", "base.ckpt"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    trained = "denoiser.conv_in.weight"
    assert not torch.equal(ours[trained], stage_two().state_dict()[trained])


def rescaled() -> dict[str, Any]:
    channel = replace(SPEC.target[1], scaling=Linear("10⁻⁶ mm²/s", 0.0, 2500.0))
    return replace(SPEC, target=(SPEC.target[0], channel)).to_plain()


@pytest.mark.parametrize(
    ("changes", "complaint", "kind"),
    [
        ({"spec": rescaled()}, r"scaling of target adc: .*2500.* ≠ .*3000", SpecMismatch),
        ({"spec": replace(SPEC, source=SPEC.source[:2]).to_plain()}, r"source channels: .* ≠ ", SpecMismatch),
        ({"autoencoder": {**VQ, "num_vq_embeddings": 64}}, "num_vq_embeddings is 32 there, 64 here", CheckpointError),
        ({"autoencoder": KL}, "_class_name is VQModel there, AutoencoderKL here", CheckpointError),
        ({"denoiser": {**DENOISER, "attention_head_dim": 4}}, "attention_head_dim is 8 there, 4 here", CheckpointError),
        (
            {"denoiser": {**DENOISER, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"]}},
            "down_block_types is",
            CheckpointError,
        ),
        (
            {"scheduler": NOISE_PREDICTION},
            "trained with another schedule: prediction_type v_prediction",
            CheckpointError,
        ),
    ],
)
def test_a_folder_of_another_model_is_refused_before_training(
    changes: dict[str, Any], complaint: str, kind: type[Exception], base: Path
) -> None:
    arguments = {"spec": SPEC.to_plain(), "autoencoder": VQ, "denoiser": DENOISER, "scheduler": SCHEDULER, "steps": 2}
    module = LesionAwarePostTraining(**{**arguments, **changes}, terms=[RegionError("lesion", 0.1)])
    with pytest.raises(kind, match=complaint) as refusal:
        module.init_from(base)
    assert str(base) in str(refusal.value)


def test_a_folder_of_a_stage_that_does_not_start_this_one(base: Path, tmp_path: Path) -> None:
    write_folder(saved(autoencoder(VQ)), tmp_path / "first")
    with pytest.raises(CheckpointError, match="of stage 'autoencoder'; LesionAwarePostTraining expects"):
        posttrain(VQ, scale=False).init_from(tmp_path / "first")
    with pytest.raises(CheckpointError, match="of stage 'diffusion'; AutoencoderModule expects"):
        autoencoder(VQ).init_from(base)


def test_a_run_goes_on_from_files_only(base: Path) -> None:
    module: LatentDiffusionModule = diffusion(VQ)
    with pytest.raises(CheckpointError, match="is missing"):
        module.require_own(base)
