"""Stages with a condition and an autoencoder of one's choice, from config to prediction, by the command."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from running import Command, options
from samples import BEHIND_UNSHUFFLE, ENCODER, KL

from ctp_ldm.networks import ConfigError
from ctp_ldm.pipeline import CTPLDMPipeline
from ctp_ldm.runs import CheckpointError, read_checkpoint

LENGTH = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--model.init_args.lr_scheduler=null"]


def stage(name: str, store: Path, arguments: dict[str, Any], base: str | None = None) -> list[str]:
    """Arguments of two steps of a demo stage with some of the model's own; its run folder is runs/NAME."""
    own = Path(f"own-{name}.yaml")
    own.write_text(yaml.safe_dump({"model": {"init_args": arguments}}))
    start = [f"--init_from=runs/{base}/checkpoints/best.ckpt"] if base else []
    usual = options(f"demo/{name}.yaml", store, Path())
    return [*usual, f"--config={own}", *LENGTH, *start, f"--trainer.default_root_dir=runs/{name}"]


def test_a_chain_of_stages_with_unshuffle_and_encoder(command: Command, store: Path) -> None:
    autoencoder, networks = BEHIND_UNSHUFFLE[0], {"autoencoder": BEHIND_UNSHUFFLE[0], "condition": ENCODER}
    weights = {"image_weight": 0.1, "brain_weight": 1.0, "lesion_weight": 0.3, "initial_log_variance": -5.0}
    command("fit", *stage("autoencoder", store, {"autoencoder": autoencoder, **weights}))
    command("fit", *stage("diffusion", store, networks, "autoencoder"))
    command("fit", *stage("posttrain", store, networks, "diffusion"))
    last = {name: read_checkpoint(Path(f"runs/{name}/checkpoints/last.ckpt")) for name in ("diffusion", "posttrain")}
    first = "condition.blocks.0.weight"
    assert not torch.equal(*(found["state_dict"][first] for found in last.values()))
    assert last["posttrain"]["ctp_ldm"]["condition"] == ENCODER
    assert last["posttrain"]["ctp_ldm"]["autoencoder"]["unshuffle"] == 2
    command("test", *stage("posttrain", store, networks))
    assert Path("runs/posttrain/test/patients.csv").is_file()
    command("convert", "runs/posttrain/checkpoints/best.ckpt", "folder")
    pipeline = CTPLDMPipeline.from_pretrained("folder")
    assert (pipeline.factor, pipeline.condition.config["block_out_channels"]) == (2, [8])

    with pytest.raises(CheckpointError, match=r"condition\._class_name is ConditionEncoder there, SourceMean here"):
        command("fit", *stage("posttrain", store, {"autoencoder": autoencoder, "condition": None}, "diffusion"))
    unlike = {"autoencoder": KL, "condition": ENCODER}
    with pytest.raises(CheckpointError, match=r"autoencoder\.unshuffle is 2 there, 1 here"):
        command("fit", *stage("diffusion", store, unlike, "autoencoder"), "--trainer.default_root_dir=runs/other")


def test_an_encoder_that_does_not_end_at_the_latent_grid_is_refused_before_training(
    command: Command, store: Path
) -> None:
    deeper = {"condition": {**ENCODER, "block_out_channels": [8, 16]}}
    with pytest.raises(ConfigError, match=r"condition\.block_out_channels is \[8, 16\], .*; expected length 1"):
        command("fit", *stage("diffusion", store, deeper))
