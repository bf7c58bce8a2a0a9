"""From a stage's checkpoint into the published layout: imported and back, trained further, trained here, refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from ctp_ldm.interop import CompVisModel, read_compvis, stage_checkpoints, stage_config, write_compvis
from ctp_ldm.interop.back import ORIGINAL, compvis_model, compvis_settings, parameterization
from ctp_ldm.interop.fold import identity_mapper
from ctp_ldm.modules import AutoencoderModule, LatentDiffusionModule, LesionAwarePostTraining
from ctp_ldm.modules.checkpoints import identity
from ctp_ldm.runs import CheckpointError, read_checkpoint
from ctp_ldm.scaling import Linear
from ctp_ldm.spec import Channel, DataSpec

from . import published
from .published import KL, NOISE_SCHEDULE, SOURCES, UNET, VQ
from .test_compvis import assert_same_network, assert_same_tensors, tensors, with_averages

UNEQUAL = [0.5, 2.0, 3.0]
ZERO_SNR: dict[str, Any] = {
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "prediction_type": "v_prediction",
}


def spec(sources: int = SOURCES) -> DataSpec:
    return DataSpec(
        source=tuple(Channel(f"ctp_{i}", Linear("HU", 0.0, 80.0)) for i in range(sources)),
        target=tuple(Channel(name, Linear("relative", 0.0, 4.0)) for name in ("dwi", "adc")),
        spacing=1.0,
        size=(32, 48),
    )


def latent_model(
    mean: float = 0.0,
    deviation: float | list[float] = 1.0,
    kind: type[LatentDiffusionModule] = LatentDiffusionModule,
    **changes: Any,
) -> LatentDiffusionModule:
    """With random weights, of which no code is near another."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"autoencoder": VQ, "denoiser": UNET, "scheduler": NOISE_SCHEDULE, **changes}
    module = kind(spec().to_plain(), **arguments).eval()
    if arguments["autoencoder"]["_class_name"] == "VQModel":
        torch.nn.init.normal_(module.autoencoder.net.quantize.embedding.weight)
    module.latent_mean.fill_(mean)
    module.latent_std.copy_(torch.as_tensor(deviation).expand(3).view(1, 3, 1, 1))
    return module


def saved(module: AutoencoderModule | LatentDiffusionModule) -> dict[str, Any]:
    """What Lightning saves of a model, as far as it matters here."""
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "epoch": 4, "global_step": 90}
    module.on_save_checkpoint(checkpoint)
    return checkpoint


def exported(checkpoint: dict[str, Any], folder: Path) -> CompVisModel:
    write_compvis(compvis_model(checkpoint, "x.ckpt"), folder / "compvis.ckpt")
    return read_compvis(folder / "compvis.ckpt")


def through_files(file: Path, folder: Path, sources: int = SOURCES) -> dict[str, dict[str, Tensor]]:
    """Import a file and export each stage again: stage → tensors."""
    found = {}
    for stage, content in stage_checkpoints(read_compvis(file), spec(sources)).items():
        torch.save(content, folder / f"{stage}.ckpt")
        again = compvis_model(read_checkpoint(folder / f"{stage}.ckpt"), stage)
        write_compvis(again, folder / f"{stage}.again.ckpt")
        found[stage] = tensors(folder / f"{stage}.again.ckpt")
    return found


# -------------------------------------------------------------------------------------------------- imported, and back


def test_the_published_file_comes_back_with_every_bit(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "lapt_parity" / "diffusion.ckpt"
    found = through_files(file, tmp_path, sources=15)
    assert_same_tensors(found["diffusion"], tensors(file))
    again = torch.load(tmp_path / "diffusion.again.ckpt", weights_only=True)
    assert (again["epoch"], again["global_step"]) == (7, 2000)
    theirs = {name: value for name, value in tensors(file).items() if name.startswith("first_stage_model.")}
    assert_same_tensors({f"first_stage_model.{name}": value for name, value in found["autoencoder"].items()}, theirs)


@pytest.mark.parametrize("half", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"config": KL},
        {"scale_factor": 0.18215},
        {"mapper": torch.randn(SOURCES, 6, 1, 1)},
        {"alphas_cumprod": torch.linspace(0.99, 0.02, 50)},
    ],
    ids=["VQ", "KL", "scale", "mapper of other channels", "schedule"],
)
def test_a_file_comes_back_with_every_bit(changes: dict[str, Any], half: torch.dtype, tmp_path: Path) -> None:
    file = tmp_path / "original.ckpt"
    write_compvis(published.model(**changes), file)
    # Not what would be computed anew, and not what the schedule's config gives.
    state = {name: tensor.to(half) for name, tensor in tensors(file).items()}
    state["posterior_mean_coef1"] *= 1.001
    state["alphas_cumprod"] *= 1 + 1e-6
    torch.save({"state_dict": state}, file)
    found = through_files(file, tmp_path, sources=changes["mapper"].shape[1] if "mapper" in changes else SOURCES)
    assert_same_tensors(found["diffusion"], state)


def test_averages_and_their_counters_come_back(checkpoint: Path, tmp_path: Path) -> None:
    state = with_averages(tensors(checkpoint), "model.diffusion_model.", "diffusion_model.")
    torch.save({"state_dict": state}, checkpoint)
    write_compvis(read_compvis(checkpoint), tmp_path / "direct.ckpt")
    found = through_files(checkpoint, tmp_path)
    assert_same_tensors(found["diffusion"], tensors(tmp_path / "direct.ckpt"))
    assert not any(name.startswith("model_ema.") for name in found["autoencoder"])


def test_an_autoencoder_alone_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "original.ckpt"
    write_compvis(CompVisModel(published.autoencoder(KL)), file)
    assert_same_tensors(through_files(file, tmp_path)["autoencoder"], tensors(file))
    state = with_averages(tensors(file), "", "")
    torch.save({"state_dict": state}, file)
    assert through_files(file, tmp_path)["autoencoder"].keys() == state.keys()


# ------------------------------------------------------------------------------------ what an import says of the model


@pytest.mark.parametrize("alphas", [None, torch.linspace(0.99, 0.02, 50)], ids=["by name", "all betas"])
def test_an_import_says_what_its_module_says(alphas: Tensor | None, tmp_path: Path) -> None:
    model = published.model() if alphas is None else published.model(alphas_cumprod=alphas)
    checkpoints, arguments = stage_checkpoints(model, spec()), stage_config(model)["model"]["init_args"]
    module = LatentDiffusionModule(spec().to_plain(), **arguments, steps=2)
    assert checkpoints["diffusion"]["ctp_ldm"] == identity("diffusion", spec(), module.describe())
    first = AutoencoderModule(spec().to_plain(), arguments["autoencoder"])
    assert checkpoints["autoencoder"]["ctp_ldm"] == identity("autoencoder", spec(), first.describe())
    for stage, content in checkpoints.items():
        torch.save(content, tmp_path / f"{stage}.ckpt")
        module.init_from(tmp_path / f"{stage}.ckpt")


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("denoiser", {"attention_head_dim": 16}),
        ("denoiser", {"norm_num_groups": 16}),
        ("autoencoder", {"norm_num_groups": 16}),
        ("scheduler", {"prediction_type": "v_prediction"}),
    ],
)
def test_an_import_is_not_started_from_with_other_settings(part: str, change: dict[str, Any], tmp_path: Path) -> None:
    model = published.model()
    torch.save(stage_checkpoints(model, spec())["diffusion"], tmp_path / "base.ckpt")
    arguments = stage_config(model)["model"]["init_args"]
    module = LatentDiffusionModule(spec().to_plain(), **arguments | {part: {**arguments[part], **change}})
    with pytest.raises(CheckpointError, match=next(iter(change))):
        module.init_from(tmp_path / "base.ckpt")


# ------------------------------------------------------------------------------------------------------ trained further


def test_other_weights_go_back_behind_an_identity(tmp_path: Path) -> None:
    imported = stage_checkpoints(published.model(), spec())["diffusion"]
    before = imported["state_dict"]["denoiser.conv_in.weight"].clone()
    for name, tensor in imported["state_dict"].items():
        if name.startswith("denoiser."):
            tensor.mul_(1.01)
    read = exported(imported, tmp_path)
    assert torch.equal(read.mapper, identity_mapper(SOURCES))  # type: ignore[arg-type]
    assert not torch.equal(read.folded().state["conv_in.weight"], before)
    for name, tensor in read.folded().state.items():
        assert torch.equal(tensor, imported["state_dict"][f"denoiser.{name}"]), name


def test_a_mapper_stays_while_its_convolution_does(tmp_path: Path) -> None:
    model = published.model()
    imported = stage_checkpoints(model, spec())["diffusion"]
    imported["state_dict"]["denoiser.conv_out.bias"] += 1
    read = exported(imported, tmp_path)
    assert torch.equal(read.mapper, model.mapper)  # type: ignore[arg-type]
    for name, tensor in read.folded().state.items():
        assert torch.equal(tensor, imported["state_dict"][f"denoiser.{name}"]), name


@torch.no_grad()
def test_a_post_trained_import_computes_the_same(tmp_path: Path) -> None:
    model = published.model(scale_factor=0.18215)
    torch.save(stage_checkpoints(model, spec())["diffusion"], tmp_path / "base.ckpt")
    module = latent_model(kind=LesionAwarePostTraining, terms=[], steps=2)
    module.init_from(tmp_path / "base.ckpt")
    for parameter in module.denoiser.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
    checkpoint = saved(module)
    assert ORIGINAL not in checkpoint
    checkpoint["state_dict"]["terms.0.segmenter.weight"] = torch.zeros(1)
    read = exported(checkpoint, tmp_path)
    assert read.scale_factor == pytest.approx(0.18215)
    assert (read.epoch, read.global_step) == (4, 90)
    assert_same_tensors(read.autoencoder.state, model.autoencoder.state)
    assert_same_function(module, read)


def assert_same_function(module: LatentDiffusionModule, model: CompVisModel) -> None:
    """CompVis' encoding, prediction and decoding with a model that was written and read again are the module's."""
    image, source = torch.rand(1, 2, 16, 24) * 2 - 1, torch.randn(1, SOURCES, 8, 12)
    autoencoder: Any = model.autoencoder.build()
    factor, net = model.scale_factor, cast(Any, module.autoencoder.net)
    encoded = autoencoder.encode(image)
    posterior = None if "latents" in encoded else encoded.latent_dist
    latents = factor * (encoded.latents if posterior is None else posterior.mode())
    torch.testing.assert_close(latents, module.encode(image), rtol=1e-4, atol=1e-4)
    if posterior is not None:
        deviation = net.encode(image).latent_dist.std / module.latent_std
        torch.testing.assert_close(factor * posterior.std, deviation, rtol=1e-4, atol=1e-5)
    latents = module.encode(image)
    torch.testing.assert_close(
        autoencoder.decode(latents / factor).sample, module.decode(latents), rtol=1e-4, atol=1e-4
    )
    noisy, timesteps = torch.randn(1, 3, 8, 12), torch.tensor([300])
    output = model.folded().build()(torch.cat([noisy, source], dim=1), timesteps).sample
    torch.testing.assert_close(output, module.predict_output(noisy, timesteps, source), rtol=1e-4, atol=1e-5)
    assert model.alphas_cumprod is not None
    torch.testing.assert_close(model.alphas_cumprod.sqrt(), module.process.signal)


# --------------------------------------------------------------------------------------------------------- trained here


@torch.no_grad()
@pytest.mark.parametrize(
    ("autoencoder", "mean", "deviation", "factor"),
    [
        (KL, 0.0, 0.25, 4.0),
        (KL, 0.3, 0.25, 1.0),
        (KL, 0.0, UNEQUAL, 1.0),
        (KL, -0.7, UNEQUAL, 1.0),
        (VQ, 0.0, 0.25, 4.0),
        (VQ, -0.7, 0.25, 1.0),
    ],
)
def test_standardised_latents(
    autoencoder: dict[str, Any], mean: float, deviation: float | list[float], factor: float, tmp_path: Path
) -> None:
    module = latent_model(mean, deviation, autoencoder=autoencoder)
    read = exported(saved(module), tmp_path)
    assert read.scale_factor == factor
    assert read.autoencoder.config["scaling_factor"] == factor
    assert_same_function(module, read)


@torch.no_grad()
def test_a_codebooks_nearest_codes_stay_the_nearest(tmp_path: Path) -> None:
    module = latent_model(-0.7, 0.25)
    written: Any = exported(saved(module), tmp_path).autoencoder.build()
    ours, theirs = cast(Any, module.autoencoder.net).quantize, written.quantize
    latents = torch.randn(4, 3, 16, 16)
    chosen, standardised = ours(latents)[2][2], theirs((latents + 0.7) / 0.25)[2][2]
    assert len(chosen.unique()) > 8
    assert torch.equal(chosen, standardised)


def test_an_autoencoder_trained_here(tmp_path: Path) -> None:
    module = AutoencoderModule(
        spec().to_plain(), KL, discriminator={"_class_name": "PatchDiscriminator", "channels": 8}
    )
    checkpoint = saved(module)
    assert any(name.startswith("discriminator.") for name in checkpoint["state_dict"])
    read = exported(checkpoint, tmp_path)
    assert (read.denoiser, read.scale_factor, read.ignored) == (None, 1.0, [])
    assert_same_tensors(read.autoencoder.state, module.autoencoder.net.state_dict())


@pytest.mark.parametrize(("ours", "theirs"), [("epsilon", "eps"), ("sample", "x0"), ("v_prediction", "v")])
def test_what_their_config_has_to_say(ours: str, theirs: str) -> None:
    flat = {**KL, "mid_block_add_attention": False}
    module = latent_model(
        deviation=0.5,
        autoencoder=flat,
        scheduler={**NOISE_SCHEDULE, "prediction_type": ours, "num_train_timesteps": 50},
    )
    checkpoint = saved(module)
    assert parameterization(checkpoint) == theirs
    assert compvis_settings(checkpoint, compvis_model(checkpoint, "x.ckpt")) == {
        "attn_type": "none",
        "parameterization": theirs,
        "timesteps": 50,
        "num_head_channels": 32,
        "scale_factor": 2.0,
        "use_ema": False,
    }
    first = saved(AutoencoderModule(spec().to_plain(), VQ))
    assert compvis_settings(first, compvis_model(first, "x.ckpt")) == {}


# -------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("changes", "complaints"),
    [
        pytest.param(
            {"scheduler": {"_class_name": "BrownianBridgeScheduler", "prediction_type": "sample"}},
            ["is a Brownian bridge", "diffusers folder"],
            id="bridge",
        ),
        pytest.param(
            {"scheduler": {**NOISE_SCHEDULE, "prediction_type": "sample"}, "noise": "zero"},
            ["noise 'zero'", "diffusers folder"],
            id="regression",
        ),
        pytest.param(
            {"scheduler": {**NOISE_SCHEDULE, **ZERO_SNR}, "noise": "fixed"},
            ["noise 'fixed'", "rescale_betas_zero_snr", "√ᾱ = 0", "diffusers folder"],
            id="all at once",
        ),
        pytest.param(
            {"scheduler": {"_class_name": "DPMSolverMultistepScheduler", **ZERO_SNR}},
            ["rescale_betas_zero_snr"],
            id="zero terminal SNR that diffusers rounds up",
        ),
        pytest.param(
            {"condition": {"_class_name": "SpaceToDepth"}},
            ["condition is SpaceToDepth; their layout has a place for the source's mean", "diffusers folder"],
            id="another condition",
        ),
        pytest.param(
            {"condition": {"_class_name": "SpaceToDepth"}, "autoencoder": {**KL, "unshuffle": 2}},
            ["condition is SpaceToDepth", "autoencoder.unshuffle is 2", "diffusers folder"],
            id="pixel-unshuffle as well",
        ),
        pytest.param({"deviation": UNEQUAL}, ["0.5, 2, 3", "AutoencoderKL", "diffusers folder"], id="codebook"),
        pytest.param({"deviation": torch.nan}, ["train it first"], id="untrained"),
        pytest.param(
            {"deviation": UNEQUAL, "autoencoder": KL | {"use_quant_conv": False}},
            ["quant_conv", "diffusers folder"],
            id="no convolutions",
        ),
    ],
)
def test_what_their_code_could_not_sample(changes: dict[str, Any], complaints: list[str]) -> None:
    with pytest.raises(CheckpointError) as refusal:
        compvis_model(saved(latent_model(**changes)), "some/x.ckpt")
    for complaint in [*complaints, "some/x.ckpt"]:
        assert complaint in str(refusal.value)


def test_an_autoencoder_alone_behind_a_pixel_unshuffle_is_refused_too() -> None:
    module = AutoencoderModule(spec().to_plain(), {**VQ, "unshuffle": 2})
    with pytest.raises(CheckpointError, match=r"x\.ckpt cannot be written in CompVis' layout: .*unshuffle is 2"):
        compvis_model(saved(module), "x.ckpt")


def test_a_checkpoint_that_does_not_say_what_it_is() -> None:
    checkpoint = saved(latent_model())
    checkpoint["ctp_ldm"] = identity("diffusion", spec(), {})
    with pytest.raises(CheckpointError, match=r"x\.ckpt.*'diffusion'.*does not say what its networks are"):
        compvis_model(checkpoint, "x.ckpt")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"autoencoder": {**VQ, "norm_num_groups": 16}}, "norm_num_groups is 16, in the code that will read it 32"),
        ({"denoiser": {**UNET, "norm_num_groups": 16}}, "norm_num_groups is 16, in the code that will read it 32"),
        ({"denoiser": {**UNET, "block_out_channels": [64, 96]}}, r"block_out_channels is \[64, 96\].*multiples"),
        ({"denoiser": {**UNET, "up_block_types": ["UpBlock2D", "UpBlock2D"]}}, "same resolutions have attention"),
        ({"autoencoder": {**VQ, "up_block_types": ["UpDecoderBlock2D"] * 2}}, "same resolutions have attention"),
        ({"autoencoder": {**VQ, "mid_block_add_attention": False}}, "mid_block_add_attention is False and levels"),
        ({"autoencoder": {**VQ, "lookup_from_codebook": True}}, "lookup_from_codebook is True"),
        ({"denoiser": {**UNET, "resnet_time_scale_shift": "scale_shift"}}, "use_scale_shift_norm"),
    ],
)
def test_what_their_code_could_not_build(changes: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    model = compvis_model(saved(latent_model(**changes)), "x.ckpt")
    with pytest.raises(CheckpointError, match=complaint):
        write_compvis(model, tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_code_with_another_number_of_groups(tmp_path: Path) -> None:
    groups = {"norm_num_groups": 16}
    changes: dict[str, Any] = {"autoencoder": {**VQ, **groups}, "denoiser": {**UNET, **groups}}
    model = compvis_model(saved(latent_model(**changes)), "x.ckpt")
    write_compvis(model, tmp_path / "a.ckpt", norm_groups=16)
    read = read_compvis(tmp_path / "a.ckpt", norm_groups=16)
    assert model.denoiser is not None
    expected = replace(model.denoiser, config=read.denoiser.config if read.denoiser else {})
    assert_same_network(read.denoiser, expected)
