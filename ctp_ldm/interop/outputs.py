"""What `ctp-ldm convert` writes: each takes a model and a place, and says in lines what it did."""

from pathlib import Path
from typing import Any

import lightning as L
import yaml

from ctp_ldm.interop.back import ORIGINAL, compvis_model, compvis_settings
from ctp_ldm.interop.export import write_compvis
from ctp_ldm.interop.inputs import Input
from ctp_ldm.pipeline import write_folder
from ctp_ldm.pipeline.layout import STAGES
from ctp_ldm.runs import AtomicCheckpointIO, CheckpointError


def write_stages(model: Input, out: Path) -> list[str]:
    """OUT/STAGE.ckpt for `--init_from` and `--ckpt_path`, and OUT/model.yaml with networks and schedule.

    Raises:
        CheckpointError: OUT has such files already, or no place to write.
    """
    taken = [name for name in (*(f"{stage}.ckpt" for stage in STAGES), "model.yaml") if (out / name).exists()]
    if taken:
        raise CheckpointError(f"{out} holds {', '.join(taken)} already; name another folder, or remove them")
    lines = []
    for stage, content in model.checkpoints.items():
        # Lightning asks which version of it wrote what it loads.
        whole = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": L.__version__, **content}
        AtomicCheckpointIO().save_checkpoint(whole, out / f"{stage}.ckpt")
        lines.append(f"{stage}: {out / f'{stage}.ckpt'}, for --init_from")
    (out / "model.yaml").write_text(yaml.safe_dump(_said_whole(model.config), sort_keys=False))
    return [*lines, f"networks and schedule: {out / 'model.yaml'}"]


def _said_whole(config: dict[str, Any]) -> dict[str, Any]:
    """With a condition that is only the mean said too: the stage's config that this goes over may have another."""
    arguments = config["model"]["init_args"]
    if "denoiser" not in arguments:
        return config
    return {"model": {"init_args": {"condition": None, **arguments}}}


def write_diffusers(model: Input, out: Path) -> list[str]:
    """OUT as a diffusers folder of the whole model.

    Raises:
        CheckpointError: OUT is there already, or no place to write.
    """
    stage, whole = _whole(model)
    write_folder(whole, out)
    lines = [f"{stage}: {out}, for --init_from" + ("" if stage == "autoencoder" else " and CTPLDMPipeline")]
    if ORIGINAL in whole:
        lines.append(
            "left out: the original's mapper and buffers; only the way back into the same CompVis file needs them"
        )
    return lines


def write_compvis_file(model: Input, out: Path) -> list[str]:
    """OUT as a checkpoint in CompVis' layout of the whole model.

    Raises:
        CheckpointError: nothing that CompVis' code could build or sample, OUT is there already, or no place to write.
    """
    if out.is_dir():
        raise CheckpointError(f"{out} is a folder; expected the name of a file, such as {out / 'model.ckpt'}")
    if out.exists():
        raise CheckpointError(f"{out} is there already; name another file, or remove it")
    stage, whole = _whole(model)
    found = compvis_model(whole, stage)
    write_compvis(found, out, model.norm_groups)
    settings = compvis_settings(whole, found)
    said = ", ".join(f"{key}: {value}" for key, value in settings.items())
    return [f"{stage}: {out}", *([f"to be said in the config of CompVis' code: {said}"] if said else [])]


WRITERS = {"stages": write_stages, "diffusers": write_diffusers, "compvis": write_compvis_file}


def _whole(model: Input) -> tuple[str, dict[str, Any]]:
    """Stage and checkpoint that hold all of the model."""
    return list(model.checkpoints.items())[-1]
