"""Other people's diffusers folders: what they predict is predicted here, what is something else is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, PNDMScheduler, UNet2DModel, VQModel

# Not from diffusers itself, which offers it only beside transformers.
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion_superresolution import LDMSuperResolutionPipeline
from safetensors.torch import load_file, save_file
from samples import DENOISER, KL, SPEC, VQ, random_batch
from torch import Tensor
from torch.nn import functional as F

from ctp_ldm.interop.foreign import read_diffusers
from ctp_ldm.interop.imported import diffusers_checkpoints
from ctp_ldm.modules import LatentDiffusionModule
from ctp_ldm.networks import slice_generators
from ctp_ldm.runs import CheckpointError, read_checkpoint

WEIGHTS = "diffusion_pytorch_model"
SCHEDULE: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}
LATENTS = 3
Damage = Callable[[Path], object]


def settings(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


def parts(config: dict[str, Any], scheduler: Any, **autoencoder: Any) -> dict[str, Any]:
    torch.manual_seed(5)
    kind = {"VQModel": VQModel, "AutoencoderKL": AutoencoderKL}[config["_class_name"]]
    first = kind(in_channels=2, out_channels=2, **{**settings(config), **autoencoder})
    unet = UNet2DModel(in_channels=LATENTS + len(SPEC.source), out_channels=LATENTS, **settings(DENOISER))
    return {"vae": first.eval(), "unet": unet.eval(), "scheduler": scheduler}


def written(folder: Path, components: dict[str, Any], pipeline: str = "TheirPipeline") -> Path:
    """As a pipeline of somebody's own would save itself."""
    for name, part in components.items():
        part.save_pretrained(folder / name)
    classes = {name: ["diffusers", type(part).__name__] for name, part in components.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline, **classes}))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "theirs", parts(KL, DDIMScheduler(**SCHEDULE, clip_sample=False), scaling_factor=0.5))


def imported(folder: Path, **changes: Any) -> LatentDiffusionModule:
    """As a stage that starts from what `convert` writes."""
    checkpoint = diffusers_checkpoints(read_diffusers(folder, **changes), SPEC)["diffusion"]
    record = checkpoint["ctp_ldm"]
    torch.save(checkpoint, folder.parent / "diffusion.ckpt")
    networks = {name: record[name] for name in ("autoencoder", "denoiser", "scheduler")}
    module = LatentDiffusionModule(record["spec"], **networks, steps=record["sampling"]["steps"]).eval()
    module.init_from(folder.parent / "diffusion.ckpt")
    return module


def synthesised(module: LatentDiffusionModule) -> Tensor:
    with torch.no_grad():
        return module.synthesise(random_batch())


def test_a_super_resolution_pipeline_of_diffusers_own(tmp_path: Path) -> None:
    """Its condition is concatenated, its code does not scale latents, and its parts have other names."""
    theirs = parts(VQ, DDIMScheduler(**SCHEDULE))
    pipeline = LDMSuperResolutionPipeline(theirs["vae"], theirs["unet"], theirs["scheduler"])
    pipeline.save_pretrained(tmp_path / "theirs")
    pipeline.set_progress_bar_config(disable=True)
    batch = random_batch()
    expected = pipeline(
        F.avg_pool2d(batch["source"], 2),
        num_inference_steps=10,
        generator=slice_generators(0, batch["case"], batch["slice_index"].tolist()),
        output_type="pt",
    ).images
    found = synthesised(imported(tmp_path / "theirs")).clamp(-1, 1) / 2 + 0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("config", "autoencoder", "mean", "std"),
    [
        (KL, {"scaling_factor": 0.5}, 0.0, 2.0),
        (KL, {"scaling_factor": 0.5, "shift_factor": 0.25}, 0.25, 2.0),
        (KL, {"scaling_factor": 0.5, "latents_mean": [0.1, 0.2, 0.3], "latents_std": [1.0, 2.0, 3.0]}, None, None),
        (VQ, {"scaling_factor": 4.0}, 0.0, 0.25),
    ],
)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_pipeline_of_somebody_s_own(
    prediction: str, config: dict[str, Any], autoencoder: dict[str, Any], mean: Any, std: Any, tmp_path: Path
) -> None:
    scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, prediction_type=prediction)
    theirs = parts(config, scheduler, **autoencoder)
    batch = random_batch()
    condition = F.avg_pool2d(batch["source"], 2)
    generators = slice_generators(0, batch["case"], batch["slice_index"].tolist())
    latents = torch.cat([torch.randn(1, LATENTS, *condition.shape[2:], generator=g) for g in generators])
    scheduler.set_timesteps(10)
    for timestep in scheduler.timesteps:
        output = theirs["unet"](torch.cat([latents, condition], dim=1), timestep).sample
        latents = scheduler.step(output, timestep, latents).prev_sample
    if mean is None:
        means, stds = (torch.tensor(autoencoder[f"latents_{k}"]).view(1, -1, 1, 1) for k in ("mean", "std"))
        latents = latents * stds / autoencoder["scaling_factor"] + means
    else:
        latents = latents * std + mean
    expected = theirs["vae"].decode(latents).sample
    found = synthesised(imported(written(tmp_path / "theirs", theirs)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_scale_that_is_given_goes_before_the_folder_s(folder: Path) -> None:
    assert (imported(folder).latent_std == 2).all()
    assert (imported(folder, scaling_factor=0.1).latent_std == 10).all()


def test_a_scale_that_is_given_leaves_the_folder_s_shift_and_names_what_it_overrides(folder: Path) -> None:
    edit(folder / "vae" / "config.json", shift_factor=0.25)
    scale = read_diffusers(folder, scaling_factor=0.1).scale
    assert scale is not None
    assert scale.mean.tolist() == [0.25] * LATENTS
    assert scale.std.tolist() == pytest.approx([10.0] * LATENTS)
    file = folder / "vae" / "config.json"
    expected = f"--scaling_factor, which overrides scaling_factor 0.5 in {file}, and shift_factor there"
    assert scale.origin == expected


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_no_factor_is_refused(value: float, folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"scaling_factor is .*; expected a finite number above 0"):
        read_diffusers(folder, scaling_factor=value)
    edit(folder / "vae" / "config.json", scaling_factor=value)
    with pytest.raises(CheckpointError, match="does not say the latents' scaling_factor"):
        read_diffusers(folder)


@pytest.mark.parametrize("config", [KL, VQ])
def test_diffusers_default_scale_is_told_as_such(config: dict[str, Any], tmp_path: Path) -> None:
    folder = written(tmp_path / "theirs", parts(config, DDIMScheduler(**SCHEDULE)))
    default, chosen = read_diffusers(folder).scale, read_diffusers(folder, scaling_factor=0.5).scale
    assert default is not None
    assert chosen is not None
    assert "0.18215 is diffusers' default, which save_pretrained writes" in default.origin
    assert "give --scaling_factor if so" in default.origin
    assert "diffusers' default" not in chosen.origin


@pytest.mark.parametrize(("part", "name"), [("vae", "decoder.conv_in.bias"), ("unet", "conv_in.bias")])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_named(part: str, name: str, value: float, folder: Path) -> None:
    path = folder / part / f"{WEIGHTS}.safetensors"
    state = {key: tensor.clone() for key, tensor in load_file(path).items()}
    state[name][0] = value
    save_file(state, path)
    with pytest.raises(CheckpointError, match=rf"weights in .*{part} are not finite \(NaN or infinite\): {name}; "):
        read_diffusers(folder)


def test_an_autoencoder_alone(folder: Path) -> None:
    model = read_diffusers(folder / "vae")
    assert (model.denoiser, model.scheduler, model.scale) == (None, None, None)
    assert list(diffusers_checkpoints(model, SPEC)) == ["autoencoder"]


def test_what_the_schedule_does_not_say_is_diffusers_default(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", clip_sample=None, skip_prk_steps=True)
    edit(folder / "model_index.json", requires_safety_checker=False)
    model = read_diffusers(folder)
    assert model.scheduler is not None
    assert model.scheduler["clip_sample"] is True
    assert model.left_out == ["model_index.json: requires_safety_checker", "scheduler: skip_prk_steps"]


def test_attention_weights_of_old_names_are_read(tmp_path: Path) -> None:
    theirs = parts(KL, DDPMScheduler(**SCHEDULE), mid_block_add_attention=True)
    folder = written(tmp_path / "theirs", theirs)
    expected = read_diffusers(folder).autoencoder.state
    path = folder / "vae" / f"{WEIGHTS}.safetensors"
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    state = load_file(path)
    for new, name in old.items():
        state = {key.replace(new, name): value.clone() for key, value in state.items()}
    assert state.keys() != expected.keys()
    save_file(state, path)
    found = read_diffusers(folder).autoencoder.state
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def with_part(name: str, kind: str) -> Damage:
    return lambda folder: edit(folder / "model_index.json", **{name: ["transformers", kind]})


def exchanged(name: str, part: Any) -> Damage:
    def damage(folder: Path) -> None:
        shutil.rmtree(folder / name)
        part.save_pretrained(folder / name)
        edit(folder / "model_index.json", **{name: ["diffusers", type(part).__name__]})

    return damage


def unet(**changes: Any) -> UNet2DModel:
    return UNet2DModel(**{"in_channels": 6, "out_channels": 3, **settings(DENOISER), **changes})


def pickled(folder: Path) -> None:
    path = folder / "unet" / WEIGHTS
    torch.save(load_file(f"{path}.safetensors"), f"{path}.bin")
    Path(f"{path}.safetensors").unlink()


def renamed(folder: Path) -> None:
    path = folder / "unet" / f"{WEIGHTS}.safetensors"
    state = load_file(path)
    save_file({"extra" if key == "conv_in.bias" else key: value for key, value in state.items()}, path)


@pytest.mark.parametrize(
    ("damage", "complaints"),
    [
        (
            with_part("text_encoder", "CLIPTextModel"),
            [
                "TheirPipeline of",
                "text_encoder: CLIPTextModel",
                "expected one of VQModel, AutoencoderKL, one UNet2DM",
                "Save it of such parts",
                "its autoencoder alone fits: convert",
            ],
        ),
        (with_part("safety_checker", "StableDiffusionSafetyChecker"), ["safety_checker: StableDiffusionSafetyChecker"]),
        (with_part("unet", "UNet2DConditionModel"), ["unet: UNet2DConditionModel", "one UNet2DModel"]),
        (
            exchanged("scheduler", PNDMScheduler()),
            ["scheduler: PNDMScheduler", "DDPMScheduler", ".from_config(pipeline.scheduler.config)"],
        ),
        (lambda f: (f / "unet" / "config.json").unlink(), ["unet/config.json", "missing"]),
        (lambda f: edit(f / "unet" / "config.json", _class_name="UNet1DModel"), ["of a UNet1DModel; ", "UNet2DModel"]),
        (lambda f: edit(f / "unet" / "config.json", widths=[8]), ["widths is not an argument of UNet2DModel"]),
        (lambda f: edit(f / "unet" / "config.json", in_channels=9), ["conv_in.weight (8, 6, 3, 3), expected (8, 9"]),
        (pickled, [f"{WEIGHTS}.bin", "can run code", "UNet2DModel.from_pretrained(", "use_safetensors=False"]),
        (renamed, ["unknown: extra", "missing: conv_in.bias"]),
        (exchanged("unet", unet(in_channels=3)), ["takes 3 channels and latents have 3: it has no condition"]),
        (exchanged("unet", unet(out_channels=6)), ["the denoiser gives 6 channels", "latents (3)"]),
        (exchanged("unet", unet(num_class_embeds=4)), ["conditioned on classes (num_class_embeds)"]),
        (
            exchanged("vae", parts(VQ, None, vq_embed_dim=4)["vae"]),
            ["vq_embed_dim is 4; expected latent_channels (3)"],
        ),
        (
            lambda f: edit(f / "scheduler" / "scheduler_config.json", prediction_type="score"),
            ["scheduler_config.json", "prediction_type"],
        ),
        (
            lambda f: edit(f / "vae" / "config.json", scaling_factor=None),
            ["does not say the latents' scaling_factor", "--scaling_factor", "convert", "vae"],
        ),
    ],
)
def test_what_is_something_else_is_refused(damage: Damage, complaints: list[str], folder: Path) -> None:
    damage(folder)
    with pytest.raises(CheckpointError) as refusal:
        read_diffusers(folder)
    for complaint in [*complaints, str(folder)]:
        assert complaint in str(refusal.value)


def test_a_pickled_file_is_read_once_it_was_converted_as_the_message_says(folder: Path) -> None:
    pickled(folder)
    with pytest.raises(CheckpointError) as refusal:
        read_diffusers(folder)
    exec("\n".join(line.strip() for line in str(refusal.value).splitlines()[1:]), {})
    assert read_diffusers(folder).denoiser is not None


def test_a_denoiser_alone_and_an_empty_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="unet is a UNet2DModel alone; expected one of VQModel"):
        read_diffusers(folder / "unet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty is no diffusers folder"):
        read_diffusers(tmp_path / "empty")


def test_other_channels_than_the_data_are_refused(folder: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other", parts(KL, DDIMScheduler(**SCHEDULE)) | {"unet": unet(in_channels=8)})
    with pytest.raises(CheckpointError, match=r"source of 5 channels, the data have 3: \['ctp_0'"):
        diffusers_checkpoints(read_diffusers(other), SPEC)
    AutoencoderKL(in_channels=1, out_channels=1, **settings(KL)).save_pretrained(tmp_path / "single")
    with pytest.raises(CheckpointError, match=r"autoencoder takes 1 channels, the data have \['dwi', 'adc'\]"):
        diffusers_checkpoints(read_diffusers(tmp_path / "single"), SPEC)


def test_the_file_holds_no_weight_twice(folder: Path, tmp_path: Path) -> None:
    imported(folder)
    state = read_checkpoint(tmp_path / "diffusion.ckpt")["state_dict"]
    size = sum(tensor.nbytes for tensor in state.values())
    assert (tmp_path / "diffusion.ckpt").stat().st_size < 1.5 * size + 100_000
