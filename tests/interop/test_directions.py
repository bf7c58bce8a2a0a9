"""`ctp-ldm convert` from each kind of model into each other."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DModel
from running import GRID, SMALL, Command
from samples import BEHIND_UNSHUFFLE, DENOISER, ENCODER, KL, SPACE_TO_DEPTH, autoencoder, diffusion, random_batch
from torch import Tensor

from ctp_ldm.interop import CompVisModel, read_compvis, write_compvis
from ctp_ldm.modules import LatentDiffusionModule, TranslationModule
from ctp_ldm.pipeline import CTPLDMPipeline, read_folder
from ctp_ldm.runs import CheckpointError, read_checkpoint

from . import published
from .test_compvis import tensors, with_averages
from .test_convert import DATA

Capture = pytest.CaptureFixture[str]


def saved(module: TranslationModule, path: Path) -> dict[str, Any]:
    """Write what Lightning would save of a model."""
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "epoch": 4, "global_step": 90}
    module.on_save_checkpoint(checkpoint)
    torch.save({**checkpoint, "optimizer_states": []}, path)
    return checkpoint


def assert_same_tensors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def theirs(folder: Path) -> Path:
    """A latent model of plain diffusers classes: a source of two channels, targets of one."""
    torch.manual_seed(6)
    networks = [{k: v for k, v in config.items() if k != "_class_name"} for config in (KL, DENOISER)]
    parts = {
        "vae": AutoencoderKL(in_channels=1, out_channels=1, scaling_factor=0.5, **networks[0]),
        "unet": UNet2DModel(in_channels=5, out_channels=3, **networks[1]),
        "scheduler": DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    index = {name: ["diffusers", type(part).__name__] for name, part in parts.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Theirs", **index}))
    return folder


@pytest.fixture
def their_data(tmp_path: Path) -> str:
    path = tmp_path / "theirs.yaml"
    scaled = {"class_path": "ctp_ldm.data.RobustRange"}
    arguments = {"sources": {"t1": scaled, "t2": scaled}, "targets": {"flair": scaled}, "size": [16, 24]}
    path.write_text(
        yaml.safe_dump({"data": {"class_path": "ctp_ldm.data.TranslationDataModule", "init_args": arguments}})
    )
    return f"--config={path}"


@pytest.fixture
def published_data(tmp_path: Path) -> str:
    """Four time points, as the small published model has."""
    path = tmp_path / "published.yaml"
    source = {"class_path": "ctp_ldm.data.PublishedCTPerfusion", "init_args": {"phases": published.SOURCES}}
    arguments: dict[str, Any] = {**DATA["init_args"], "sources": {"ctp": source}}  # type: ignore[dict-item]
    path.write_text(yaml.safe_dump({"data": {**DATA, "init_args": arguments}}))
    return f"--config={path}"


def test_a_stage_of_ours_to_a_folder_and_back(command: Command, tmp_path: Path, capsys: Capture) -> None:
    checkpoint = saved(diffusion(), tmp_path / "mine.ckpt")
    command("convert", "mine.ckpt", "folder")
    said = capsys.readouterr().out
    assert "latent scale: (z − [" in said
    assert "left out, because only its own run needs it: optimizer_states\n" in said
    assert_same_tensors(read_folder("folder")["state_dict"], checkpoint["state_dict"])
    command("convert", "folder", "stages", "--to", "stages")
    back = read_checkpoint(Path("stages/diffusion.ckpt"))
    assert_same_tensors(back["state_dict"], checkpoint["state_dict"])
    assert back["ctp_ldm"] == checkpoint["ctp_ldm"]
    assert (back["epoch"], back["global_step"]) == (4, 90)
    arguments = yaml.safe_load(Path("stages/model.yaml").read_text())["model"]["init_args"]
    module = LatentDiffusionModule(back["ctp_ldm"]["spec"], **arguments).eval()
    module.init_from("stages/diffusion.ckpt")
    with torch.no_grad():
        expected = diffusion().eval().predict_step(random_batch(), 0)["image"]
        assert torch.equal(module.predict_step(random_batch(), 0)["image"], expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"condition": ENCODER},
        {"condition": SPACE_TO_DEPTH},
        {"config": BEHIND_UNSHUFFLE[0], "condition": ENCODER},
    ],
    ids=["encoder", "space to depth", "encoder and pixel-unshuffle"],
)
def test_condition_and_pixel_unshuffle_go_with_the_model(
    settings: dict[str, Any], command: Command, tmp_path: Path
) -> None:
    """To a folder, whose other parts are diffusers' own, to stages, to the same images; not to CompVis'."""
    module = diffusion(**settings).eval()
    checkpoint, batch = saved(module, tmp_path / "mine.ckpt"), random_batch()
    with torch.no_grad():
        expected = module.predict_step(batch, 0)["image"]
    command("convert", "mine.ckpt", "folder")
    networks = {path.parent.name for path in Path("folder").glob("*/*.safetensors")}
    assert networks == {"autoencoder", "denoiser"} | (
        {"condition"} if "condition.blocks.0.weight" in checkpoint["state_dict"] else set()
    )
    pipeline = CTPLDMPipeline.from_pretrained("folder")
    given = (batch["brain"], batch["case"], batch["slice_index"])
    assert torch.equal(pipeline(batch["source"], *given, physical=False).images, expected)
    command("convert", "folder", "stages", "--to", "stages")
    back = read_checkpoint(Path("stages/diffusion.ckpt"))
    assert_same_tensors(back["state_dict"], checkpoint["state_dict"])
    assert back["ctp_ldm"] == checkpoint["ctp_ldm"]
    arguments = yaml.safe_load(Path("stages/model.yaml").read_text())["model"]["init_args"]
    again = LatentDiffusionModule(back["ctp_ldm"]["spec"], **arguments).eval()
    again.init_from("folder")
    with torch.no_grad():
        assert torch.equal(again.predict_step(batch, 0)["image"], expected)
    with pytest.raises(CheckpointError, match="cannot be written in CompVis' layout: its condition is"):
        command("convert", "folder", "theirs.ckpt", "--to=compvis")


def test_an_autoencoder_of_ours(command: Command, tmp_path: Path, capsys: Capture) -> None:
    discriminator = {"_class_name": "PatchDiscriminator", "channels": 8, "num_layers_d": 2}
    checkpoint = saved(autoencoder(discriminator=discriminator), tmp_path / "mine.ckpt")
    command("convert", "mine.ckpt", "folder")
    assert "belongs to the objective: discriminator." in capsys.readouterr().out
    command("convert", "folder", "stages", "--to=stages")
    model = {name: v for name, v in checkpoint["state_dict"].items() if name.startswith("autoencoder.")}
    assert_same_tensors(read_checkpoint(Path("stages/autoencoder.ckpt"))["state_dict"], model)


def test_a_stage_of_ours_is_post_trained_from_its_folder(command: Command, bases: dict[str, Path], store: Path) -> None:
    """And the folder says of networks and schedule what the config has to say."""
    command("convert", bases["diffusion"], "folder")
    command("convert", "folder", "stages", "--to=stages")
    arguments = ["--config=demo/posttrain.yaml", "--config=stages/model.yaml", *GRID, *SMALL, f"--data.store={store}"]
    length = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--model.lr_scheduler=null"]
    for name, base in (("folder", "folder"), ("file", str(bases["diffusion"]))):
        command("fit", *arguments, *length, f"--init_from={base}", f"--trainer.default_root_dir=runs/{name}")
    trained = [read_checkpoint(Path(f"runs/{name}/checkpoints/best.ckpt"))["state_dict"] for name in ("folder", "file")]
    assert_same_tensors(trained[0], trained[1])
    command("test", *arguments, "--ckpt_path=runs/file/checkpoints/best.ckpt", "--trainer.default_root_dir=runs/file")
    command("convert", "runs/folder/checkpoints/best.ckpt", "post")
    assert read_folder("post")["ctp_ldm"]["stage"] == "posttrain"


def test_a_stage_of_ours_to_compvis(command: Command, checkpoint: Path, published_data: str, capsys: Capture) -> None:
    """From a published model, through a folder, which keeps nothing of the file that it came from."""
    command("convert", checkpoint, "folder", published_data, "--to=diffusers")
    assert "only the way back into the same CompVis file" in capsys.readouterr().out
    command("convert", "folder", "again.ckpt", "--to=compvis")
    assert "parameterization: eps" in capsys.readouterr().out
    before, after = read_compvis(checkpoint).folded(), read_compvis("again.ckpt").folded()
    assert_same_tensors(dict(after.state), dict(before.state))
    with pytest.raises(CheckpointError, match=r"folder is a folder; expected the name of a file"):
        command("convert", "folder", "folder", "--to=compvis")


def test_a_published_model_in_and_out(command: Command, checkpoint: Path, published_data: str, capsys: Capture) -> None:
    command("convert", checkpoint, "stages", published_data)
    assert "no scale_factor in the file: it is 1 unless their config says otherwise" in capsys.readouterr().out
    command("convert", "stages/diffusion.ckpt", "again.ckpt", "--to=compvis")
    found, expected = (torch.load(p, weights_only=True)["state_dict"] for p in ("again.ckpt", checkpoint))
    assert_same_tensors(found, expected)
    command("convert", checkpoint, "scaled", published_data, "--scaling-factor=0.5")
    assert (read_checkpoint(Path("scaled/diffusion.ckpt"))["state_dict"]["latent_std"] == 2).all()


def test_the_published_model_through_a_folder(shared_data: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": DATA}))
    original = shared_data / "lapt_parity" / "diffusion.ckpt"
    command("convert", original, "first", "--config=data.yaml")
    command("convert", "first/diffusion.ckpt", "folder")
    command("convert", "folder", "second", "--to=stages")
    first, second = (read_checkpoint(Path(name) / "diffusion.ckpt") for name in ("first", "second"))
    assert_same_tensors(second["state_dict"], first["state_dict"])
    assert second["ctp_ldm"] == first["ctp_ldm"]


def test_a_foreign_folder_to_stages_and_to_ours(
    command: Command, tmp_path: Path, their_data: str, capsys: Capture
) -> None:
    theirs(tmp_path / "theirs")
    command("convert", "theirs", "stages", their_data)
    said = capsys.readouterr().out
    assert "AutoencoderKL and UNet2DModel and DDIMScheduler" in said
    assert "latent scale: (z − [0, 0, 0]) / [2, 2, 2], from scaling_factor in theirs/vae/config.json" in said
    command("convert", "theirs", "ours", their_data, "--to=diffusers")
    expected = read_checkpoint(Path("stages/diffusion.ckpt"))
    assert_same_tensors(read_folder("ours")["state_dict"], expected["state_dict"])
    images = CTPLDMPipeline.from_pretrained("ours")(torch.zeros(1, 2, 16, 24)).images
    assert images.shape == (1, 1, 16, 24)
    arguments = yaml.safe_load(Path("stages/model.yaml").read_text())["model"]["init_args"]
    module = LatentDiffusionModule(expected["ctp_ldm"]["spec"], **arguments)
    module.init_from("stages/autoencoder.ckpt")
    assert module.latent_std.isnan().all()
    module.init_from("stages/diffusion.ckpt")
    assert (module.latent_std == 2).all()
    command("convert", "theirs/vae", "first", their_data)
    assert "latent scale: none here; stage 2 estimates it" in capsys.readouterr().out
    assert not Path("first/diffusion.ckpt").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["text.txt", "out"], "is no torch checkpoint, but a plain pickle, a text"),
        (["empty", "out"], "empty is no diffusers folder"),
        (["none", "out"], "none is missing"),
        (["mine.ckpt", "out", "--scaling_factor=1"], "knows its latents' scale; leave out --scaling_factor"),
        (["mine.ckpt", "out", "--scaling_factor=0"], "scaling_factor is 0.0; expected a finite number above 0"),
        (["mine.ckpt", "out", "--scaling_factor=-1"], "scaling_factor is -1.0; expected a finite number above 0"),
        (
            ["mine.ckpt", "out", "--parameterization=v"],
            "knows what its denoiser puts out; leave out --parameterization",
        ),
        (["mine.ckpt", "taken"], "taken is there already and not empty"),
    ],
)
def test_what_cannot_be_converted(arguments: list[str], complaint: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("text")
    saved(diffusion(), tmp_path / "mine.ckpt")
    with pytest.raises(CheckpointError, match=complaint):
        command("convert", *arguments)
    assert not Path("out").exists()


def test_a_checkpoint_of_before_says_what_to_do(command: Command, tmp_path: Path) -> None:
    checkpoint = saved(diffusion(), tmp_path / "mine.ckpt")
    record = {key: checkpoint["ctp_ldm"][key] for key in ("stage", "spec")} | {"version": "0.2.0"}
    torch.save({**checkpoint, "ctp_ldm": record}, "old.ckpt")
    with pytest.raises(CheckpointError, match=r"says nothing of its autoencoder.*version 0.2.0 wrote it; .*init_from"):
        command("convert", "old.ckpt", "folder")


def test_averages_of_a_run_are_said_to_be_what_is_exported(command: Command, tmp_path: Path, capsys: Capture) -> None:
    checkpoint = saved(diffusion(), tmp_path / "mine.ckpt")
    torch.save({**checkpoint, "ema": {}}, tmp_path / "mine.ckpt")
    command("convert", "mine.ckpt", "folder")
    assert "needs it: ema; the weights exported are the averages, where it has any" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "guesses", "prediction"),
    [
        ([], "attention heads of width 32 (--head_width), 32 norm groups (--norm_groups), noise", "epsilon"),
        (
            ["--head_width=16", "--norm_groups=16", "--parameterization=v"],
            "attention heads of width 16 (--head_width), 16 norm groups (--norm_groups), velocity",
            "v_prediction",
        ),
        (["--parameterization=x0"], "(--norm_groups), image", "sample"),
    ],
)
def test_what_a_published_file_does_not_say_is_told(
    arguments: list[str],
    guesses: str,
    prediction: str,
    command: Command,
    checkpoint: Path,
    published_data: str,
    capsys: Capture,
) -> None:
    command("convert", checkpoint, "stages", published_data, *arguments)
    said = capsys.readouterr().out
    assert "not in the weights: attention" in said
    assert f"{guesses} prediction (--parameterization)" in said
    assert "diffusion: stages/diffusion.ckpt, for --init_from" in said
    assert read_checkpoint(Path("stages/diffusion.ckpt"))["ctp_ldm"]["scheduler"]["prediction_type"] == prediction
    config = yaml.safe_load(Path("stages/model.yaml").read_text())["model"]["init_args"]
    assert config["scheduler"]["prediction_type"] == prediction


def test_an_autoencoder_s_file_tells_of_norm_groups_only(
    command: Command, tmp_path: Path, published_data: str, capsys: Capture
) -> None:
    write_compvis(CompVisModel(published.autoencoder()), tmp_path / "first.ckpt")
    command("convert", "first.ckpt", "stages", published_data)
    assert "not in the weights: 32 norm groups (--norm_groups)\n" in capsys.readouterr().out


def test_a_long_list_of_weights_that_are_not_used_is_cut(
    command: Command, checkpoint: Path, published_data: str, capsys: Capture
) -> None:
    state = with_averages(tensors(checkpoint), "model.diffusion_model.", "diffusion_model.")
    torch.save({"state_dict": state}, checkpoint)
    command("convert", checkpoint, "stages", published_data)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("not used"))
    assert line.endswith(" more")
    assert len(line) < 1500


@pytest.mark.parametrize("target", ["stages", "compvis"])
def test_no_conversion_overwrites_anything(
    target: str, command: Command, checkpoint: Path, published_data: str, tmp_path: Path
) -> None:
    """Least of all what it reads."""
    command("convert", checkpoint, "stages", published_data)
    source, out = ("stages/diffusion.ckpt", "stages") if target == "stages" else ("stages/diffusion.ckpt",) * 2
    before = {path: path.read_bytes() for path in Path("stages").iterdir()}
    with pytest.raises(CheckpointError, match=rf"{out}.* already; name another .*, or remove (it|them)"):
        command("convert", source, out, f"--to={target}")
    assert {path: path.read_bytes() for path in Path("stages").iterdir()} == before


def test_an_exported_folder_without_its_record_is_not_foreign(
    command: Command, tmp_path: Path, their_data: str
) -> None:
    command("convert", theirs(tmp_path / "theirs"), "ours", their_data, "--to=diffusers")
    Path("ours/ctp_ldm.json").unlink()
    with pytest.raises(CheckpointError, match=r"ours is a CTPLDMPipeline without ctp_ldm.json.*copy that file"):
        command("convert", "ours", "stages", their_data)
    assert not Path("stages").exists()
