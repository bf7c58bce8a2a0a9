"""Whatever `ctp-ldm convert` is given, as checkpoints of this project."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ctp_ldm.interop.back import ORIGINAL
from ctp_ldm.interop.compvis import CompVisModel, few, read_compvis
from ctp_ldm.interop.foreign import read_diffusers, require_factor
from ctp_ldm.interop.imported import diffusers_checkpoints
from ctp_ldm.interop.naming import SCALE
from ctp_ldm.interop.stages import stage_checkpoints, stage_config
from ctp_ldm.modules.checkpoints import TERMS
from ctp_ldm.pipeline import read_folder
from ctp_ldm.pipeline.layout import CONDITION, RECORD
from ctp_ldm.pipeline.parts import skeletons
from ctp_ldm.runs import KEY, CheckpointError, read_checkpoint
from ctp_ldm.spec import DataSpec

PREDICTED = {"epsilon": "noise", "sample": "image", "v_prediction": "velocity"}
KEPT = ("state_dict", KEY, ORIGINAL, "epoch", "global_step")


@dataclass(frozen=True)
class Input:
    """A model and where it is from.

    ours: of this project, so that its record says what its channels are.
    checkpoints: stage → checkpoint; the last is the whole model.
    config: networks and schedule as the `model` section of a stage's config has them.
    remarks: what was used of the input and what was not, a line each.
    norm_groups: of every normalisation, as the code that it may be exported to has them.
    """

    ours: bool
    checkpoints: dict[str, dict[str, Any]]
    config: dict[str, Any]
    remarks: list[str]
    norm_groups: int = 32


def read_input(
    path: Path,
    spec: Callable[[], DataSpec],
    head_width: int = 32,
    norm_groups: int = 32,
    scaling_factor: float | None = None,
    parameterization: str = "eps",
) -> Input:
    """Read a checkpoint or folder of this project, a diffusers folder of another, or a checkpoint in CompVis' layout.

    Args:
        spec: gives that of the data a foreign model was trained on.
        head_width, norm_groups, parameterization: see `read_compvis`.
        scaling_factor: what latents of a foreign model were multiplied with; None to take it from the input.

    Raises:
        CheckpointError: nothing of the kind, or incomplete, or not to be built here.
    """
    require_factor(scaling_factor)
    ours = _read_ours(path)
    if (ours is not None or path.is_dir()) and parameterization != "eps":
        raise CheckpointError(f"{path} knows what its denoiser puts out; leave out --parameterization")
    if ours is not None:
        if scaling_factor is not None:
            raise CheckpointError(f"{path} knows its latents' scale; leave out --scaling_factor")
        return replace(_own(path, ours), norm_groups=norm_groups)
    if path.is_dir():
        return replace(_diffusers(path, spec(), scaling_factor), norm_groups=norm_groups)
    published = read_compvis(path, head_width, norm_groups, parameterization)
    found = _compvis(path, published, spec(), scaling_factor)
    return replace(found, remarks=[*found.remarks, _assumed(published, norm_groups)], norm_groups=norm_groups)


def _read_ours(path: Path) -> dict[str, Any] | None:
    if path.is_dir():
        return read_folder(path) if (path / RECORD).is_file() else None
    try:
        return read_checkpoint(path)
    except CheckpointError:
        return None  # whoever reads it next says what it is instead


def _own(path: Path, checkpoint: Mapping[str, Any]) -> Input:
    record = checkpoint[KEY]
    try:
        parts = skeletons(record)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    arguments = {name: record[name] for name in (*parts, CONDITION) if name in record}
    if "sampling" in record:
        sampling = record["sampling"]
        arguments |= {"steps": sampling["steps"], "noise": sampling["noise"], "sampling_seed": sampling["seed"]}
        arguments |= {key: sampling[key] for key in ("timestep_range",) if key in sampling}
    state = checkpoint["state_dict"]
    model = {key: value for key, value in state.items() if not key.startswith(TERMS)}
    kept = {key: checkpoint[key] for key in KEPT if key in checkpoint} | {"state_dict": model}
    remarks = [f"read: stage {record['stage']}, trained with ctp-ldm {record['version']}"]
    if "latent_std" in state:
        remarks.append(_scale_remark(state, "mean and deviation in it"))
    objective = [key for key in state if key.startswith(TERMS)]
    if objective:
        remarks.append(f"left out, because it belongs to the objective: {few(objective)}")
    training = [key for key in checkpoint if key not in KEPT]
    if training:
        averaged = "; the weights exported are the averages, where it has any" if "ema" in training else ""
        remarks.append(f"left out, because only its own run needs it: {few(training)}{averaged}")
    return Input(True, {record["stage"]: kept}, {"model": {"init_args": arguments}}, remarks)


def _diffusers(path: Path, spec: DataSpec, scaling_factor: float | None) -> Input:
    model = read_diffusers(path, scaling_factor)
    checkpoints = diffusers_checkpoints(model, spec)
    whole = list(checkpoints.values())[-1]
    arguments = {k: whole[KEY][k] for k in ("autoencoder", "denoiser", "scheduler") if k in whole[KEY]}
    remarks = [f"read: diffusers folder of {' and '.join(arguments[k]['_class_name'] for k in arguments)}"]
    if model.scale is None:
        remarks.append("latent scale: none here; stage 2 estimates it")
    else:
        remarks.append(_scale_remark(whole["state_dict"], model.scale.origin))
    if model.left_out:
        remarks.append(f"left out, because nothing here knows it: {', '.join(model.left_out)}")
    return Input(False, checkpoints, {"model": {"init_args": arguments}}, remarks)


def _compvis(path: Path, published: CompVisModel, spec: DataSpec, scaling_factor: float | None) -> Input:
    model = _with_scale(path, published, scaling_factor)
    checkpoints = stage_checkpoints(model, spec)
    whole = list(checkpoints.values())[-1]
    remarks = [
        "averaged weights (EMA) were found and used" if model.averaged else "no averaged weights (EMA) in the file"
    ]
    if model.denoiser is not None:
        origin = "--scaling_factor" if scaling_factor is not None else f"{SCALE} in the file"
        if scaling_factor is None and SCALE not in model.buffers:
            origin = f"no {SCALE} in the file: it is 1 unless their config says otherwise; if so give --scaling_factor"
        remarks.append(_scale_remark(whole["state_dict"], origin))
    if model.ignored:
        remarks.append(f"not used, because no network here needs them: {few(model.ignored)}")
    return Input(False, checkpoints, stage_config(model), remarks)


def _assumed(model: CompVisModel, norm_groups: int) -> str:
    """What was taken for granted, and how to say otherwise: a wrong guess computes something else without a word."""
    guesses = [f"{norm_groups} norm groups (--norm_groups)"]
    if model.denoiser is not None:
        settings = model.denoiser.settings()
        if settings["add_attention"] or any("Attn" in kind for kind in settings["down_block_types"]):
            guesses.insert(0, f"attention heads of width {settings['attention_head_dim']} (--head_width)")
        guesses.append(f"{PREDICTED[model.prediction_type]} prediction (--parameterization)")
    return f"not in the weights: {', '.join(guesses)}"


def _with_scale(path: Path, model: CompVisModel, factor: float | None) -> CompVisModel:
    """Their code keeps the factor in the file, or in a config that is not here."""
    if factor is None:
        return model
    if SCALE in model.buffers:
        raise CheckpointError(
            f"{path} says that latents are multiplied with {model.scale_factor:g}; leave out --scaling_factor"
        )
    return replace(model, scale_factor=factor)


def _scale_remark(state: Mapping[str, Tensor], origin: str) -> str:
    mean, std = (", ".join(f"{v:.4g}" for v in state[key].flatten().tolist()) for key in ("latent_mean", "latent_std"))
    return f"latent scale: (z − [{mean}]) / [{std}], from {origin}"
