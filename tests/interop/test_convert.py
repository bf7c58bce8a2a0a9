"""From a published checkpoint to a post-trained model and a NIfTI file, by the command."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from running import Command

from ctp_ldm.cli import run
from ctp_ldm.interop import read_compvis
from ctp_ldm.modules import LatentDiffusionModule
from ctp_ldm.runs import CheckpointError, read_checkpoint

DATA = {
    "class_path": "ctp_ldm.data.CTPToDiffusionMRI",
    "init_args": {
        "spacing": 6.0,
        "size": [32, 48],
        "sources": {"ctp": {"class_path": "ctp_ldm.data.PublishedCTPerfusion"}},
        "targets": {role: {"class_path": "ctp_ldm.data.RobustRange"} for role in ("dwi", "adc")},
    },
}


@pytest.fixture
def data(tmp_path: Path) -> str:
    """The published system's channels on a small grid, as a config."""
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump({"data": DATA}))
    return f"--config={path}"


@pytest.fixture
def published(shared_data: Path) -> Path:
    return shared_data / "lapt_parity"


def test_an_imported_model_predicts_what_the_published_one_does(published: Path, data: str, command: Command) -> None:
    command("convert", published / "diffusion.ckpt", "base", data)
    arguments: dict[str, Any] = yaml.safe_load(Path("base/model.yaml").read_text())["model"]["init_args"]
    spec = read_checkpoint(Path("base/diffusion.ckpt"))["ctp_ldm"]["spec"]
    module = LatentDiffusionModule(spec, **arguments, steps=2).eval()
    module.init_from("base/diffusion.ckpt")
    vectors = {name: torch.from_numpy(value) for name, value in np.load(published / "vectors.npz").items()}
    with torch.no_grad():
        latents = module.encode(vectors["image"])
        noise = module.predict_output(
            vectors["noisy_latents"],
            vectors["timesteps"],
            module.condition(vectors["ctp"]),
        )
    for found, expected in ((latents, vectors["latents"]), (noise, vectors["predicted_noise"])):
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_an_imported_model_is_post_trained_and_predicts_nifti(
    published: Path, data: str, command: Command, tree: Path
) -> None:
    command("prepare", tree, "store", data, "--workers=1")
    command("convert", published / "diffusion.ckpt", "base", data)
    arguments = [
        "--config=demo/posttrain.yaml",
        data,
        "--config=base/model.yaml",
        "--init_from=base/diffusion.ckpt",
        "--data.store=store",
        "--data.num_workers=0",
        "--data.batch_size=2",
        "--data.validation_cases=1",
        "--model.lr_scheduler=null",
        "--model.steps=2",
        "--trainer.enable_progress_bar=false",
        "--trainer.default_root_dir=runs/post",
        "--trainer.max_steps=2",
        "--trainer.val_check_interval=2",
    ]
    command("fit", *arguments)
    trained = read_checkpoint(Path("runs/post/checkpoints/best.ckpt"))
    base = read_checkpoint(Path("base/diffusion.ckpt"))["state_dict"]
    assert torch.equal(trained["state_dict"]["latent_std"], base["latent_std"])
    name = "autoencoder.net.decoder.conv_out.weight"
    assert torch.equal(trained["state_dict"][name], base[name])
    command("predict", *arguments, f"--data.predict_from={tree}")
    written = sorted(Path("runs/post/predictions").rglob("*_adc.nii.gz"))
    assert len(written) == 8
    assert np.isfinite(nib.load(written[0]).get_fdata()).all()


def test_a_model_of_other_channels_than_the_data_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    source = read_compvis(checkpoint).folded()
    with pytest.raises(
        CheckpointError, match=f"source of {source.in_channels - source.out_channels} channels, the data"
    ):
        run(["convert", str(checkpoint), str(tmp_path / "base"), "--data.context=1"])
    assert not (tmp_path / "base").exists()
