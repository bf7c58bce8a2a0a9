"""A stage's file loads alone, starts the next stage, and is refused where it does not belong."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import DENOISER, KL, SCHEDULER, SPEC, VQ, ToyData, autoencoder, diffusion, posttrain, random_batch, trainer

from ctp_ldm.losses import RegionError
from ctp_ldm.modules import AutoencoderModule, LatentDiffusionModule, LesionAwarePostTraining, TranslationModule
from ctp_ldm.runs import CheckpointError
from ctp_ldm.sample import Sample
from ctp_ldm.spec import SpecMismatch

SHALLOW = {
    **DENOISER,
    "block_out_channels": [8],
    "down_block_types": ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"],
}
STAGES: dict[str, type[TranslationModule]] = {
    "autoencoder": AutoencoderModule,
    "diffusion": LatentDiffusionModule,
    "posttrain": LesionAwarePostTraining,
}


def content(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("stage", STAGES)
def test_a_checkpoint_loads_alone_and_makes_the_same_images(
    stage: str, checkpoints: dict[str, Path], batch: Sample
) -> None:
    module = STAGES[stage].load_from_checkpoint(checkpoints[stage], map_location="cpu", weights_only=True)
    state = content(checkpoints[stage])["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    twin = {"autoencoder": autoencoder, "diffusion": diffusion, "posttrain": posttrain}[stage]()
    twin.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(module.eval().synthesise(batch), twin.eval().synthesise(batch))


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_plain(v) for v in value.values())
    if isinstance(value, list | tuple):
        return all(is_plain(v) for v in value)
    return type(value) in (str, int, float, bool, type(None))


@pytest.mark.parametrize("stage", STAGES)
def test_hyperparameters_are_plain_data(stage: str, checkpoints: dict[str, Path]) -> None:
    """Trained with an optimiser, a schedule and loss terms that are not."""
    hyperparameters = content(checkpoints[stage])["hyper_parameters"]
    assert is_plain(hyperparameters)
    assert hyperparameters["spec"] == SPEC.to_plain()
    assert hyperparameters["autoencoder"] == KL
    assert not {"optimizer", "lr_scheduler", "terms"} & set(hyperparameters)


@pytest.mark.parametrize("stage", STAGES)
def test_a_checkpoint_says_what_it_is(stage: str, checkpoints: dict[str, Path]) -> None:
    record = content(checkpoints[stage])["ctp_ldm"]
    assert (record["stage"], record["spec"]) == (stage, SPEC.to_plain())


def test_diffusion_takes_exactly_the_autoencoder_of_stage_one(checkpoints: dict[str, Path]) -> None:
    module = diffusion(scale=False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.init_from(checkpoints["autoencoder"])
    theirs = content(checkpoints["autoencoder"])["state_dict"]
    for name, value in module.state_dict().items():
        expected = theirs[name] if name.startswith("autoencoder.") else before[name]
        assert torch.equal(value.nan_to_num(), expected.nan_to_num()), name
    assert not torch.equal(
        theirs["autoencoder.net.encoder.conv_in.weight"], before["autoencoder.net.encoder.conv_in.weight"]
    )


@pytest.mark.parametrize(
    ("stage", "base"), [(diffusion, "diffusion"), (posttrain, "diffusion"), (posttrain, "posttrain")]
)
def test_further_training_takes_all_weights_and_the_averaged_ones(
    stage: Any, base: str, checkpoints: dict[str, Path]
) -> None:
    module = stage(scale=False)
    module.init_from(checkpoints[base])
    saved = content(checkpoints[base])
    assert set(module.state_dict()) == set(saved["state_dict"])
    for name, value in module.state_dict().items():
        assert torch.equal(value, saved["state_dict"][name]), name
    name = "denoiser.conv_in.weight"
    assert not torch.equal(module.state_dict()[name], saved["ema"]["weights"][name])


def test_the_frozen_autoencoder_and_the_latent_scale_come_unchanged_through_all_stages(
    checkpoints: dict[str, Path],
) -> None:
    first, second, third = (content(checkpoints[stage])["state_dict"] for stage in STAGES)
    for name, value in first.items():
        assert torch.equal(second[name], value), name
        assert torch.equal(third[name], value), name
    assert second["latent_std"].isfinite().all()
    assert torch.equal(third["latent_std"], second["latent_std"])
    assert torch.equal(third["latent_mean"], second["latent_mean"])


@pytest.mark.parametrize(
    ("make", "base", "message"),
    [
        (autoencoder, "diffusion", "AutoencoderModule expects 'autoencoder'"),
        (diffusion, "posttrain", "LatentDiffusionModule expects 'autoencoder' or 'diffusion'"),
        (posttrain, "autoencoder", "LesionAwarePostTraining expects 'diffusion' or 'posttrain'"),
    ],
)
def test_a_base_of_another_stage_is_refused(make: Any, base: str, message: str, checkpoints: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match=rf"{base}\.ckpt is of stage '{base}'; {message}"):
        make().init_from(checkpoints[base])


@pytest.mark.parametrize(
    ("make", "base", "message"),
    [
        (lambda: diffusion(VQ), "autoencoder", "autoencoder._class_name is AutoencoderKL there, VQModel"),
        (
            lambda: diffusion({**KL, "latent_channels": 4}),
            "autoencoder",
            "autoencoder.latent_channels is 3 there, 4 here",
        ),
        (
            lambda: posttrain(denoiser={**DENOISER, "layers_per_block": 2}),
            "diffusion",
            "denoiser.layers_per_block is 1 there, 2 here",
        ),
        (lambda: posttrain(denoiser=SHALLOW), "diffusion", "denoiser.block_out_channels is"),
    ],
    ids=["another class", "more latent channels", "deeper", "shallower"],
)
def test_a_base_of_other_networks_is_refused_before_anything_is_loaded(
    make: Any, base: str, message: str, checkpoints: dict[str, Path]
) -> None:
    module = make()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"(?s)networks of .*{base}\.ckpt are not.*{message}"):
        module.init_from(checkpoints[base])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("denoiser.conv_in.bias"), "missing in the checkpoint: denoiser.conv_in.bias"),
        (lambda state: state.update({"denoiser.stray": torch.zeros(1)}), "unknown to the model: denoiser.stray"),
        (
            lambda state: state.update({"denoiser.conv_in.bias": torch.zeros(5)}),
            r"denoiser.conv_in.bias: \(5,\) in the checkpoint, \(8,\) in the model",
        ),
        (lambda state: state.clear(), "missing in the checkpoint: latent_mean"),
    ],
    ids=["missing", "unknown", "shape", "empty"],
)
def test_weights_that_are_not_those_of_the_record_are_listed(
    change: Callable[[dict[str, Any]], None], message: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    content = torch.load(checkpoints["diffusion"], weights_only=True)
    change(content["state_dict"])
    torch.save(content, tmp_path / "odd.ckpt")
    module = posttrain()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"(?s)odd\.ckpt do not fit the model.*{message}"):
        module.init_from(tmp_path / "odd.ckpt")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def with_nan(state: dict[str, torch.Tensor]) -> None:
    state["denoiser.conv_in.bias"][2] = torch.nan


def test_weights_that_are_no_numbers_are_refused_as_base_and_in_a_test(
    checkpoints: dict[str, Path], tmp_path: Path, batch: Sample
) -> None:
    content = torch.load(checkpoints["diffusion"], weights_only=True)
    with_nan(content["state_dict"])
    torch.save(content, tmp_path / "nan.ckpt")
    message = r"nan\.ckpt holds weights that are NaN or infinite: denoiser\.conv_in\.bias"
    with pytest.raises(CheckpointError, match=message):
        posttrain().init_from(tmp_path / "nan.ckpt")
    with pytest.raises(CheckpointError, match=message):
        trainer(tmp_path).test(
            diffusion(), datamodule=ToyData(batch), ckpt_path=tmp_path / "nan.ckpt", weights_only=True
        )


def other_spec() -> dict[str, Any]:
    plain = SPEC.to_plain()
    plain["target"][1]["scaling"]["high"] = 2000.0
    return plain


def test_a_base_of_other_scalings_is_refused(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(SpecMismatch, match=r"(?s)autoencoder\.ckpt.*scaling of target adc.*2000.*3000"):
        AutoencoderModule(other_spec(), KL).init_from(checkpoints["autoencoder"])


def test_an_autoencoder_serves_every_source_and_a_diffusion_model_its_own(checkpoints: dict[str, Path]) -> None:
    plain = SPEC.with_context(1).to_plain()
    arguments: dict[str, Any] = {"denoiser": DENOISER, "scheduler": SCHEDULER}
    LatentDiffusionModule(plain, KL, **arguments).init_from(checkpoints["autoencoder"])
    with pytest.raises(SpecMismatch, match="source channels"):
        LatentDiffusionModule(plain, KL, **arguments).init_from(checkpoints["diffusion"])


def test_a_missing_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.ckpt is missing"):
        diffusion().init_from(tmp_path / "nowhere.ckpt")


@pytest.mark.parametrize("garbage", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_base_is_refused(garbage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "garbage.ckpt"
    path.write_bytes(garbage)
    with pytest.raises(CheckpointError, match=r"garbage\.ckpt cannot be loaded"):
        diffusion().init_from(path)


def test_a_truncated_base_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "half.ckpt"
    whole = checkpoints["autoencoder"].read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"half\.ckpt cannot be loaded"):
        diffusion().init_from(path)


@pytest.mark.parametrize("stranger", [{"state_dict": {}}, {"ctp_ldm": {}}, [1, 2]])
def test_a_checkpoint_of_another_project_is_refused(stranger: Any, tmp_path: Path) -> None:
    torch.save(stranger, tmp_path / "stranger.ckpt")
    with pytest.raises(CheckpointError, match=r"stranger\.ckpt is not a checkpoint of ctp-ldm"):
        diffusion().init_from(tmp_path / "stranger.ckpt")


class Malicious:
    """Unpickled without restriction it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_base_is_not_executed(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    path, trace = tmp_path / "malicious.ckpt", tmp_path / "executed"
    torch.save({**content(checkpoints["autoencoder"]), "callbacks": Malicious(trace)}, path)
    with pytest.raises(CheckpointError, match=r"malicious\.ckpt cannot be loaded as tensors and plain data"):
        diffusion().init_from(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file was harmless, so the test showed nothing"


@pytest.mark.parametrize(
    ("make", "message"), [(diffusion, "set init_from to the checkpoint of stage autoencoder"), (posttrain, "init_from")]
)
def test_training_without_a_base_is_refused(make: Any, message: str, tmp_path: Path, batch: Sample) -> None:
    with pytest.raises(CheckpointError, match=message):
        trainer(tmp_path).fit(make(scale=False), datamodule=ToyData(batch))


def test_testing_with_a_checkpoint_of_another_stage_is_refused(
    checkpoints: dict[str, Path], tmp_path: Path, batch: Sample
) -> None:
    with pytest.raises(CheckpointError, match="of stage 'diffusion'; LesionAwarePostTraining expects 'posttrain'"):
        trainer(tmp_path).test(
            posttrain(), datamodule=ToyData(batch), ckpt_path=checkpoints["diffusion"], weights_only=True
        )


def test_testing_on_other_scalings_is_refused(checkpoints: dict[str, Path], tmp_path: Path, batch: Sample) -> None:
    with pytest.raises(SpecMismatch, match="scaling of target adc"):
        trainer(tmp_path).test(
            AutoencoderModule(other_spec(), KL),
            datamodule=ToyData(batch),
            ckpt_path=checkpoints["autoencoder"],
            weights_only=True,
        )


def test_a_finished_base_can_be_moved(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Nothing in a checkpoint points back to where it, or its own base, was written."""
    moved = shutil.copy(checkpoints["diffusion"], tmp_path / "renamed.ckpt")
    module = posttrain(scale=False, terms=[RegionError("brain", 1.0)])
    module.init_from(moved)
    trainer(tmp_path, max_steps=1).fit(module, datamodule=ToyData(random_batch()))
    assert module.denoiser.conv_in.weight.isfinite().all()
