"""A checkpoint as a diffusers folder."""

import json
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ctp_ldm.networks.autoencoder import UNSHUFFLE
from ctp_ldm.pipeline.layout import (
    AUTOENCODER,
    BRIDGE,
    DENOISER,
    INDEX,
    LATENTS,
    MOMENTS,
    NOTICE,
    OWN_SETTINGS,
    PIPELINE,
    RECORD,
    SCALE_SETTINGS,
)
from ctp_ldm.pipeline.parts import components
from ctp_ldm.runs import KEY, CheckpointError


def write_folder(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write a trained stage as a diffusers folder (see `pipeline.layout`); `read_folder` is the way back.

    Weights of loss terms and of the discriminator belong to the objective and are left out, as is the optimiser.

    Args:
        checkpoint: from `runs.read_checkpoint`.
        path: a folder that is empty or not there.

    Raises:
        CheckpointError: the checkpoint is incomplete, holds what no part has a use for, or there is no place to write.
    """
    parts = components(checkpoint, "the checkpoint")
    state, record = checkpoint["state_dict"], checkpoint[KEY]
    settings = {key: value for key, value in record[AUTOENCODER].items() if key == UNSHUFFLE}
    if DENOISER in parts:
        settings |= _say_scale(parts[AUTOENCODER], *(state[key].flatten() for key in MOMENTS.values()))
    with whole_folder(Path(path)) as folder:
        for name, part in parts.items():
            part.save_pretrained(folder / name)
        if DENOISER in parts:
            tensors = {name: state[key] for name, key in (MOMENTS | BRIDGE).items() if key in state}
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / LATENTS)
            _write_json(folder / INDEX, _index(parts))
        own = {key: value for key, value in record.items() if key not in parts}
        beside = {OWN_SETTINGS: settings} if settings else {}
        trained = {key: checkpoint[key] for key in ("epoch", "global_step") if key in checkpoint}
        _write_json(folder / RECORD, {"notice": NOTICE, **own, **beside, **trained})
        mode = stat.S_IMODE((folder / RECORD).stat().st_mode)
        for weights in folder.rglob("*.safetensors"):
            weights.chmod(mode)  # safetensors writes for the owner only, whatever the umask is


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when all is in it; nothing is left of it when that fails.

    Raises:
        CheckpointError: there is something under that name, or no space, or no right to write there.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise CheckpointError(f"{path} is there already and not empty; name another folder, or remove it")
    partial = path.with_name(f".{path.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if path.is_dir():
            path.rmdir()
        partial.rename(path)
    except (OSError, SafetensorError) as error:  # safetensors says its own where the disk is full
        raise CheckpointError(f"the folder {path} could not be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _say_scale(autoencoder: Any, mean: Tensor, std: Tensor) -> dict[str, Any]:
    """Have an autoencoder's config say how latents are standardised, as far as its class can; what it said before.

    diffusers' own pipelines would otherwise take its default, with which this denoiser was not trained.

    Args:
        mean, std: (Cz,); latents are standardised by (z − mean) / std.
    """
    before = {key: autoencoder.config[key] for key in SCALE_SETTINGS if key in autoencoder.config}
    real: dict[str, Any] = dict.fromkeys(before) | {"scaling_factor": 1.0}
    if not bool(mean.any()) and bool((std == std[0]).all()):
        real["scaling_factor"] = 1 / std[0].item()
    elif "latents_mean" in real:
        real |= {"latents_mean": mean.tolist(), "latents_std": std.tolist()}
    autoencoder.register_to_config(**real)
    return before


def _index(parts: Mapping[str, Any]) -> dict[str, Any]:
    """What diffusers' `save_pretrained` of the pipeline writes: the module of a class that is not diffusers' own."""
    modules = {name: type(part).__module__ for name, part in parts.items()}
    libraries = {name: "diffusers" if module.startswith("diffusers.") else module for name, module in modules.items()}
    classes = {name: [libraries[name], type(part).__name__] for name, part in parts.items()}
    return {"_class_name": PIPELINE, "_diffusers_version": diffusers.__version__, **classes}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
