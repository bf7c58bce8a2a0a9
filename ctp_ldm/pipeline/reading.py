"""A diffusers folder as a checkpoint."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ctp_ldm.networks import plain_config
from ctp_ldm.networks.build import FROM_DATA
from ctp_ldm.pipeline.layout import (
    AUTOENCODER,
    BRIDGE,
    CLASSES,
    CONDITION,
    INDEX,
    LATENTS,
    MOMENTS,
    NOT_IN_CONFIG,
    OWN_SETTINGS,
    PIPELINE,
    PREFIXES,
    RECORD,
    SCHEDULER,
    STAGES,
)
from ctp_ldm.pipeline.parts import require_weights, skeletons
from ctp_ldm.pipeline.weights import read_json, read_tensors, read_weights
from ctp_ldm.runs import KEY, CheckpointError, read_checkpoint
from ctp_ldm.spec import DataSpec, SpecMismatch

TRAINED = ("epoch", "global_step")
REQUIRED = ("version", "stage", "spec")


def read_base(path: Path) -> dict[str, Any]:
    """A checkpoint of this project, from its file or from the diffusers folder that was made of it.

    Raises:
        CheckpointError: see `runs.read_checkpoint` and `read_folder`.
    """
    return read_folder(path) if path.is_dir() else read_checkpoint(path)


def read_folder(path: str | Path) -> dict[str, Any]:
    """What `runs.read_checkpoint` gives of the checkpoint that `write_folder` made a folder of.

    Weights stay on the disk until they are used.

    Raises:
        CheckpointError: not such a folder, or files that are missing, damaged or do not fit together: all of them.
    """
    folder = Path(path)
    content = _record(folder)
    stage = content["stage"]
    index = read_json(folder / INDEX) if stage != AUTOENCODER else {}
    names = [*STAGES[stage], *([CONDITION] if index.get(CONDITION) else [])]
    configs = _collect(folder, {part: partial(_config, folder, part) for part in names})
    if stage != AUTOENCODER:
        _require_index(folder, index, configs)
    record = {key: value for key, value in content.items() if key not in (*TRAINED, "notice", OWN_SETTINGS)}
    configs[AUTOENCODER] = configs[AUTOENCODER] | content.get(OWN_SETTINGS, {})
    bare = {part: {k: v for k, v in config.items() if k not in FROM_DATA} for part, config in configs.items()}
    try:
        parts = skeletons({**record, **bare})
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    _require_channels(folder, configs, parts)
    state = _weights(folder, configs)
    require_weights(state, parts, record, str(folder))
    sampling = {"sampling": record.pop("sampling")} if "sampling" in record else {}
    described = {part: plain_config(component) for part, component in parts.items()}
    described[AUTOENCODER] |= {key: bare[AUTOENCODER][key] for key in NOT_IN_CONFIG if key in bare[AUTOENCODER]}
    trained = {key: content[key] for key in TRAINED if key in content}
    return {"state_dict": state, KEY: {**record, **described, **sampling}, **trained}


def _record(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder here; expected one that `ctp-ldm convert` wrote")
    if not (folder / RECORD).is_file():
        raise CheckpointError(_foreign(folder))
    content = read_json(folder / RECORD)
    missing = [key for key in REQUIRED if key not in content]
    if content.get("stage") in STAGES and content["stage"] != AUTOENCODER and "sampling" not in content:
        missing.append("sampling")
    if missing:
        raise CheckpointError(f"{folder / RECORD} does not say {', '.join(missing)}; write the folder anew")
    if content["stage"] not in STAGES:
        raise CheckpointError(f"{folder / RECORD}: stage is {content['stage']!r}; expected one of {list(STAGES)}")
    if not isinstance(content.get(OWN_SETTINGS, {}), dict):
        raise CheckpointError(f"{folder / RECORD}: {OWN_SETTINGS} is no object; write the folder anew")
    try:
        DataSpec.from_plain(content["spec"], str(folder / RECORD))
    except SpecMismatch as error:
        raise CheckpointError(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / RECORD}: spec says nothing that is understood here ({error!r})") from error
    return content


def _foreign(folder: Path) -> str:
    """Why a folder without a record is refused."""
    index = folder / INDEX
    if index.is_file():
        kind = f"a diffusers folder of {read_json(index).get('_class_name')}"
    elif (folder / "config.json").is_file():
        kind = f"a diffusers {read_json(folder / 'config.json').get('_class_name')}"
    else:
        inside = sorted(path.name for path in folder.glob("*"))
        return (
            f"{folder} is no diffusers folder (no {INDEX}): found {inside}; the checkpoints of a run are in its "
            "folder checkpoints, such as RUN/checkpoints/best.ckpt"
        )
    return (
        f"{folder} is {kind} without {RECORD}, so nothing says which channels and scalings it was trained on. If it is "
        "a VQModel or AutoencoderKL, with or without a UNet2DModel whose condition is concatenated, import it: "
        f"ctp-ldm convert {folder} OUT --config DATA"
    )


def _config(folder: Path, part: str) -> dict[str, Any]:
    """_class_name and settings of one part, as diffusers wrote them."""
    name = "scheduler_config.json" if part == SCHEDULER else "config.json"
    content = read_json(folder / part / name)
    return {key: value for key, value in content.items() if key == "_class_name" or not key.startswith("_")}


def _weights(folder: Path, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """By their names in a checkpoint."""
    readers = {
        part: partial(read_weights, folder / part, str(configs[part].get("_class_name")))
        for part in CLASSES
        if part in configs
    }
    if SCHEDULER in configs:
        readers[LATENTS] = partial(read_tensors, folder / LATENTS)
    tensors = _collect(folder, readers)
    state = {f"{PREFIXES[part]}{name}": t for part in CLASSES if part in tensors for name, t in tensors[part].items()}
    known = MOMENTS | BRIDGE
    return state | {known.get(name, f"{LATENTS}: {name}"): t for name, t in tensors.get(LATENTS, {}).items()}


def _require_index(folder: Path, index: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> None:
    faults = []
    if index.get("_class_name") != PIPELINE:
        faults.append(f"_class_name is {index.get('_class_name')}; expected {PIPELINE}")
    listed = {name: value[-1] for name, value in index.items() if isinstance(value, list) and value}
    expected = {part: config.get("_class_name") for part, config in configs.items()}
    for name in sorted(listed.keys() | expected.keys()):
        if listed.get(name) != expected.get(name):
            faults.append(f"{name} is {listed.get(name)} there; {expected.get(name)} in its own config")
    if faults:
        raise CheckpointError(f"{folder / INDEX} does not fit the folder: " + "; ".join(faults))


def _require_channels(folder: Path, configs: Mapping[str, Mapping[str, Any]], parts: Mapping[str, Any]) -> None:
    faults = [
        f"{part}.{key} is {configs[part][key]}; the channels in {RECORD} make it {parts[part].config[key]}"
        for part in CLASSES
        if part in configs
        for key in FROM_DATA
        if key in configs[part] and configs[part][key] != parts[part].config[key]
    ]
    if faults:
        raise CheckpointError(f"{folder}: " + "; ".join(faults))


def _collect(folder: Path, readers: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each reader gives; the faults of all of them at once."""
    found, faults = {}, []
    for name, read in readers.items():
        try:
            found[name] = read()
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError(f"{folder} is not whole:\n  " + "\n  ".join(faults))
    return found
