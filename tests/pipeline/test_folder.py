"""A checkpoint becomes a diffusers folder and comes back; what is not whole is refused in words."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from samples import BEHIND_UNSHUFFLE, KL, SPACE_TO_DEPTH, SPEC, VQ, autoencoder, posttrain
from torch import nn

from ctp_ldm.losses import RegionError
from ctp_ldm.modules.checkpoints import TERMS
from ctp_ldm.pipeline import CTPLDMPipeline, read_base, read_folder, write_folder
from ctp_ldm.pipeline.layout import OBJECTIVE
from ctp_ldm.runs import CheckpointError
from ctp_ldm.spec import RESAMPLED

from .models import FAMILIES, model, saved

DISCRIMINATOR = {"_class_name": "PatchDiscriminator", "channels": 8, "num_layers_d": 2}
WEIGHTS = "diffusion_pytorch_model.safetensors"
Damage = Callable[[Path], object]


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["ctp_ldm"] == expected["ctp_ldm"]
    assert (found["epoch"], found["global_step"]) == (expected["epoch"], expected["global_step"])
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], tensor), name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a latent model with VQ."""
    write_folder(saved(model("VQ, DDIM")), tmp_path / "folder")
    return tmp_path / "folder"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_way_there_and_back_changes_nothing(family: str, tmp_path: Path) -> None:
    checkpoint = saved(model(family))
    write_folder(checkpoint, tmp_path / "folder")
    assert_same(read_folder(tmp_path / "folder"), checkpoint)


@pytest.mark.parametrize("config", [KL, VQ, *BEHIND_UNSHUFFLE])
def test_an_autoencoder_alone(config: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = saved(autoencoder(config))
    write_folder(checkpoint, tmp_path / "folder")
    assert_same(read_folder(tmp_path / "folder"), checkpoint)
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["autoencoder", "ctp_ldm.json"]
    with pytest.raises(CheckpointError, match=r"folder is an autoencoder alone \(stage 1\).*init_from"):
        CTPLDMPipeline.from_pretrained(tmp_path / "folder")


class Learned(RegionError):
    """A loss term with weights of its own."""

    def __init__(self) -> None:
        super().__init__("lesion", 0.1)
        self.head = nn.Linear(2, 2)


@pytest.mark.parametrize("stage", ["autoencoder", "posttrain"])
def test_what_belongs_to_the_objective_stays_behind(stage: str, tmp_path: Path) -> None:
    bare, with_objective = {
        "autoencoder": lambda: (autoencoder(), autoencoder(discriminator=DISCRIMINATOR)),
        "posttrain": lambda: (posttrain(), posttrain(terms=[Learned()])),
    }[stage]()
    assert len(with_objective.state_dict()) > len(bare.state_dict())
    write_folder(saved(with_objective), tmp_path / "folder")
    assert read_folder(tmp_path / "folder")["state_dict"].keys() == bare.state_dict().keys()
    assert OBJECTIVE == TERMS


def test_every_part_is_diffusers_own(tmp_path: Path) -> None:
    module = model("KL, DDIM")
    write_folder(saved(module), tmp_path / "folder")
    for part, kind, mine in (
        ("autoencoder", AutoencoderKL, module.autoencoder.net),
        ("denoiser", UNet2DModel, module.denoiser),
    ):
        loaded, info = kind.from_pretrained(tmp_path / "folder" / part, output_loading_info=True)
        assert not any(info.values())
        assert all(torch.equal(value, mine.state_dict()[name]) for name, value in loaded.state_dict().items())
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "folder" / "scheduler")
    assert torch.equal(scheduler.alphas_cumprod, module.scheduler.alphas_cumprod)
    assert not list((tmp_path / "folder").rglob("*.bin"))


def test_what_diffusers_does_not_know_is_beside_its_parts(tmp_path: Path) -> None:
    """The autoencoder behind a pixel-unshuffle is its own class, of four times as many channels."""
    module = model("KL behind unshuffle, encoder")
    write_folder(saved(module), tmp_path / "encoder")
    config, record, index = (
        json.loads((tmp_path / "encoder" / name).read_text())
        for name in ("autoencoder/config.json", "ctp_ldm.json", "model_index.json")
    )
    assert (config["in_channels"], "unshuffle" in config) == (8, False)
    loaded = AutoencoderKL.from_pretrained(tmp_path / "encoder" / "autoencoder")
    images = torch.zeros(1, 2, 8, 8)
    inside = nn.functional.pixel_unshuffle(images, 2)
    assert torch.equal(loaded.encode(inside).latent_dist.mode(), module.autoencoder.encode(images))
    assert record["autoencoder_settings"]["unshuffle"] == 2
    assert index["condition"] == ["ctp_ldm.networks.condition", "ConditionEncoder"]
    write_folder(saved(model("KL, space to depth")), tmp_path / "space")
    assert json.loads((tmp_path / "space" / "ctp_ldm.json").read_text())["condition"] == SPACE_TO_DEPTH
    write_folder(saved(model("KL, DDIM")), tmp_path / "mean")
    assert "condition" not in json.loads((tmp_path / "mean" / "ctp_ldm.json").read_text())
    for name in ("space", "mean"):
        assert not (tmp_path / name / "condition").exists()


@pytest.mark.parametrize(
    ("family", "mean", "std", "told"),
    [
        ("KL, DDIM", [0.0] * 3, [4.0] * 3, {"scaling_factor": 0.25, "latents_mean": None, "latents_std": None}),
        (
            "KL, DDIM",
            [0.0, 0.5, 1.0],
            [1.0, 2.0, 4.0],
            {"scaling_factor": 1.0, "latents_mean": [0.0, 0.5, 1.0], "latents_std": [1.0, 2.0, 4.0]},
        ),
        ("VQ, DDIM", [0.0] * 3, [4.0] * 3, {"scaling_factor": 0.25}),
        ("VQ, DDIM", [0.0, 0.5, 1.0], [4.0] * 3, {"scaling_factor": 1.0}),
    ],
)
def test_the_autoencoder_s_config_says_the_latents_real_scale(
    family: str, mean: list[float], std: list[float], told: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = saved(model(family))
    for name, values in (("latent_mean", mean), ("latent_std", std)):
        checkpoint["state_dict"][name] = torch.tensor(values).view(1, 3, 1, 1)
    assert checkpoint["ctp_ldm"]["autoencoder"]["scaling_factor"] == 0.18215
    write_folder(checkpoint, tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "autoencoder" / "config.json").read_text())
    assert {key: config[key] for key in told} == told
    assert checkpoint["ctp_ldm"]["autoencoder"]["scaling_factor"] == 0.18215
    assert_same(read_folder(tmp_path / "folder"), checkpoint)
    loaded = CTPLDMPipeline.from_pretrained(tmp_path / "folder")
    assert loaded.autoencoder.config["scaling_factor"] == told["scaling_factor"]
    assert loaded.to_checkpoint()["ctp_ldm"]["autoencoder"] == checkpoint["ctp_ldm"]["autoencoder"]


def test_the_patients_that_a_model_was_trained_on_go_with_it(tmp_path: Path) -> None:
    module = model("KL, DDIM")
    module.trained_on = {"0123456789abcdef"}
    write_folder(saved(module), tmp_path / "folder")
    CTPLDMPipeline.from_pretrained(tmp_path / "folder").save_pretrained(tmp_path / "again")
    assert read_folder(tmp_path / "again")["ctp_ldm"]["trained_on"] == ["0123456789abcdef"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_all_files_have_the_mode_that_the_umask_says(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_folder(saved(model("KL, DDIM")), tmp_path / "folder")
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "folder").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}


def test_the_folder_says_what_its_numbers_mean(folder: Path) -> None:
    record = json.loads((folder / "ctp_ldm.json").read_text())
    assert "synthetic" in record["notice"]
    assert [channel["scaling"]["unit"] for channel in record["spec"]["target"]] == ["relative", "10⁻⁶ mm²/s"]
    assert record["sampling"] == {"steps": 2, "noise": "random", "seed": 0}
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "CTPLDMPipeline"
    assert index["autoencoder"] == ["diffusers", "VQModel"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: c["state_dict"].pop("latent_std"), "missing: latent_std"),
        (lambda c: c["state_dict"].pop("denoiser.conv_in.bias"), "missing: denoiser.conv_in.bias"),
        (lambda c: c["state_dict"].update({"segmenter.weight": torch.zeros(1)}), "unknown: segmenter.weight"),
        (lambda c: c["state_dict"]["latent_std"].fill_(torch.nan), "latent_std is not finite.*never estimated"),
        (lambda c: c["ctp_ldm"].pop("denoiser"), "says nothing of its denoiser.*init_from"),
        (lambda c: c["ctp_ldm"].update(stage="segmenter"), "stage is 'segmenter'; expected one of"),
    ],
)
def test_a_checkpoint_that_is_not_whole_or_has_more_is_refused(
    change: Callable[[dict[str, Any]], object], complaint: str, tmp_path: Path
) -> None:
    checkpoint = saved(model("KL, DDIM"))
    change(checkpoint)
    with pytest.raises(CheckpointError, match=complaint):
        write_folder(checkpoint, tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    before = (folder / "ctp_ldm.json").read_bytes()
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    for taken in ("folder", "file"):
        with pytest.raises(CheckpointError, match=rf"{taken} is there already and not empty; name another"):
            write_folder(saved(model("KL, DDIM")), tmp_path / taken)
    write_folder(saved(model("KL, DDIM")), tmp_path / "empty")
    assert (folder / "ctp_ldm.json").read_bytes() == before
    assert read_folder(tmp_path / "empty")


def test_a_half_written_folder_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ctp_ldm.pipeline.folder.save_file", full)
    with pytest.raises(CheckpointError, match=r"folder could not be written: .*No space left"):
        write_folder(saved(model("KL, DDIM")), tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def edited(name: str, **changes: Any) -> Damage:
    """Values changed in a JSON file; None takes them out."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        content |= changes
        (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return damage


def reweighted(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        state = {key: value.clone() for key, value in load_file(folder / name).items()}
        change(state)
        save_file(state, folder / name)

    return damage


def truncated(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-10])

    return damage


def without_resampling() -> dict[str, Any]:
    """As version 0.2.0 wrote it."""
    return {key: value for key, value in SPEC.to_plain().items() if key not in RESAMPLED}


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "denoiser" / WEIGHTS), folder / "denoiser" / "diffusion_pytorch_model.bin")
    (folder / "denoiser" / WEIGHTS).unlink()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda f: (f / "denoiser" / WEIGHTS).unlink(), f"denoiser has no {WEIGHTS}; found \\['config.json'\\]"),
        (lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json cannot be read as JSON, it is missing"),
        (lambda f: (f / "latents.safetensors").unlink(), "latents.safetensors cannot be read as safetensors"),
        (truncated(f"autoencoder/{WEIGHTS}"), f"{WEIGHTS} cannot be read as safetensors.*damaged"),
        (truncated("ctp_ldm.json"), "ctp_ldm.json cannot be read as JSON"),
        (pickled, r"diffusion_pytorch_model.bin, which can run code.*\n.*import UNet2DModel\n.*use_safetensors=False"),
        (edited("ctp_ldm.json", sampling=None), "does not say sampling"),
        (edited("ctp_ldm.json", autoencoder_settings=[1]), "autoencoder_settings is no object; write the folder anew"),
        (edited("ctp_ldm.json", spec={"size": [1, 2]}), "spec says nothing that is understood"),
        (
            edited("ctp_ldm.json", spec=without_resampling()),
            r"the spec of .*ctp_ldm.json does not say slice_thickness, averaging, phases.* convert the original",
        ),
        (edited("model_index.json", _class_name="DDPMPipeline"), "_class_name is DDPMPipeline; expected CTPLDM"),
        (
            edited("model_index.json", denoiser=["diffusers", "UNet2DConditionModel"]),
            "denoiser is UNet2DConditionModel there; UNet2DModel in its own config",
        ),
        (
            edited("autoencoder/config.json", _class_name="AutoencoderKL"),
            "autoencoder is VQModel there; AutoencoderKL in its own config",
        ),
        (edited("denoiser/config.json", in_channels=9), "denoiser.in_channels is 9; the channels .* make it 6"),
        (edited("denoiser/config.json", widths=[1]), "denoiser.widths is not an argument of UNet2DModel"),
        (edited("autoencoder/config.json", num_vq_embeddings=64), r"embedding.weight \(32, 3\), expected \(64, 3\)"),
        (edited("scheduler/scheduler_config.json", prediction_type="epsilon"), "rescale_betas_zero_snr with"),
        (
            reweighted("latents.safetensors", lambda s: s.update(median=torch.zeros(1))),
            "unknown: latents.safetensors: median",
        ),
        (
            reweighted(f"denoiser/{WEIGHTS}", lambda s: s.update({"extra.weight": s.pop("conv_in.bias")})),
            r"unknown: denoiser.extra.weight\n  missing: denoiser.conv_in.bias",
        ),
    ],
)
def test_a_folder_that_does_not_fit_together_is_refused(damage: Damage, complaint: str, folder: Path) -> None:
    damage(folder)
    for read in (read_folder, CTPLDMPipeline.from_pretrained):
        with pytest.raises(CheckpointError, match=complaint) as refusal:
            read(folder)
        assert str(folder) in str(refusal.value)


def test_an_autoencoder_whose_unshuffle_was_forgotten_is_refused(tmp_path: Path) -> None:
    write_folder(saved(autoencoder(BEHIND_UNSHUFFLE[0])), tmp_path / "folder")
    edited("ctp_ldm.json", autoencoder_settings=None)(tmp_path / "folder")
    with pytest.raises(
        CheckpointError, match=r"autoencoder\.in_channels is 8; the channels in ctp_ldm\.json make it 2"
    ):
        read_folder(tmp_path / "folder")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda f: (f / "condition" / WEIGHTS).unlink(), f"condition has no {WEIGHTS}; found"),
        (lambda f: shutil.rmtree(f / "condition"), "condition/config.json cannot be read as JSON"),
        (edited("model_index.json", condition=None), "denoiser.in_channels is 11; the channels .* make it 6"),
        (edited("condition/config.json", in_channels=4), "condition.in_channels is 4; the channels .* make it 3"),
        (edited("condition/config.json", block_out_channels=[8, 8]), "makes the source 4 times smaller; expected"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(damage: Damage, complaint: str, tmp_path: Path) -> None:
    write_folder(saved(model("KL behind unshuffle, encoder")), tmp_path / "folder")
    damage(tmp_path / "folder")
    for read in (read_folder, CTPLDMPipeline.from_pretrained):
        with pytest.raises(CheckpointError, match=complaint):
            read(tmp_path / "folder")


def test_all_missing_files_are_told_at_once(folder: Path) -> None:
    for name in (f"autoencoder/{WEIGHTS}", f"denoiser/{WEIGHTS}", "latents.safetensors"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError) as refusal:
        read_folder(folder)
    assert [line.split(" ")[2].removeprefix(f"{folder}/") for line in str(refusal.value).splitlines()[1:]] == [
        "autoencoder",
        "denoiser",
        "latents.safetensors",
    ]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    stock = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    for name, file, content in (
        ("stock", "model_index.json", stock),
        ("single", "config.json", {"_class_name": "AutoencoderKL"}),
        ("run", "fit.json", {}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(content))
    for name, complaint in (
        ("stock", "stock is a diffusers folder of StableDiffusionPipeline without ctp_ldm.json.*ctp-ldm convert"),
        ("single", "single is a diffusers AutoencoderKL without ctp_ldm.json.*ctp-ldm convert"),
        ("run", r"run is no diffusers folder.*found \['fit.json'\].*RUN/checkpoints/best.ckpt"),
    ):
        with pytest.raises(CheckpointError, match=complaint):
            read_base(tmp_path / name)
    with pytest.raises(CheckpointError, match="none is missing"):
        read_base(tmp_path / "none")
    with pytest.raises(CheckpointError, match="none is no folder here"):
        CTPLDMPipeline.from_pretrained(tmp_path / "none")


def test_weights_in_several_files(folder: Path) -> None:
    expected = read_folder(folder)
    net = UNet2DModel.from_pretrained(folder / "denoiser")
    (folder / "denoiser" / WEIGHTS).unlink()
    net.save_pretrained(folder / "denoiser", max_shard_size="50KB")
    assert len(list((folder / "denoiser").glob("*-of-*"))) > 1
    assert_same(read_folder(folder), expected)


def test_another_schedule_in_the_folder_is_read(folder: Path) -> None:
    """As diffusers' users exchange one."""
    edited("scheduler/scheduler_config.json", timestep_spacing="trailing", set_alpha_to_one=False)(folder)
    assert read_folder(folder)["ctp_ldm"]["scheduler"]["set_alpha_to_one"] is False
