"""The diffusers components of a model, built from what a checkpoint says of itself."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ctp_ldm.networks import (
    BrownianBridgeScheduler,
    ConditionEncoder,
    PixelSpace,
    build_autoencoder,
    build_component,
    build_condition,
    build_scheduler,
    image_factor,
    unshuffled,
)
from ctp_ldm.networks.build import CLASS_KEY
from ctp_ldm.pipeline.layout import (
    AUTOENCODER,
    BRIDGE,
    CLASSES,
    CONDITION,
    DENOISER,
    MOMENTS,
    OBJECTIVE,
    PREFIXES,
    SCHEDULER,
    STAGES,
)
from ctp_ldm.pipeline.weights import weight_faults
from ctp_ldm.runs import KEY, CheckpointError
from ctp_ldm.spec import DataSpec


def skeletons(record: Mapping[str, Any]) -> dict[str, Any]:
    """Part → component; networks have names and shapes of their weights only, at no cost in memory.

    A condition without weights is no part: `build_condition` makes it of the record.

    Args:
        record: of a checkpoint, under its key `ctp_ldm`.

    Raises:
        CheckpointError: the record is of no stage that is known, does not name the parts, or is of a model in pixel
            space, which diffusers has no parts for.
        ConfigError: a part's config is wrong.
    """
    if record.get("stage") not in STAGES:
        raise CheckpointError(f"stage is {record.get('stage')!r}; expected one of {list(STAGES)}")
    names = STAGES[record["stage"]]
    unnamed = [name for name in names if name not in record]
    if unnamed:
        raise CheckpointError(
            f"it says nothing of its {', '.join(unnamed)}, because version {record.get('version')} wrote it; start a "
            "run from it with init_from: that run's checkpoints do"
        )
    if record[AUTOENCODER].get(CLASS_KEY) == PixelSpace.__name__:
        raise CheckpointError(
            f"it works in pixel space ({AUTOENCODER}.{CLASS_KEY} is {PixelSpace.__name__}), for which neither "
            "diffusers nor CompVis' code has an autoencoder; use the checkpoint as it is (--ckpt_path, --init_from)"
        )
    spec = DataSpec.from_plain(record["spec"])
    sources, targets = len(spec.source), len(spec.target)
    with torch.device("meta"):
        autoencoder = build_autoencoder(record[AUTOENCODER], targets)
        parts = {AUTOENCODER: autoencoder}
        if DENOISER in names:
            latents = int(autoencoder.config["latent_channels"])
            factor = image_factor(autoencoder.config, unshuffled(record[AUTOENCODER]))
            condition = build_condition(record.get(CONDITION), sources, factor)
            if isinstance(condition, ConditionEncoder):
                parts[CONDITION] = condition
            inside = latents + condition.out_channels
            parts[DENOISER] = build_component(
                DENOISER, record[DENOISER], CLASSES[DENOISER], in_channels=inside, out_channels=latents
            )
    if SCHEDULER in names:
        parts[SCHEDULER] = build_scheduler(record[SCHEDULER], record["sampling"]["steps"])
    return parts


def expected_shapes(parts: Mapping[str, Any], sources: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights and latent moments that a checkpoint of these parts has.

    Args:
        sources: channels of the source, which a bridge maps.
    """
    shapes = {
        f"{prefix}{name}": tuple(tensor.shape)
        for part, prefix in PREFIXES.items()
        if part in parts
        for name, tensor in parts[part].state_dict().items()
    }
    if DENOISER in parts:
        channels = parts[DENOISER].config["out_channels"]
        shapes |= dict.fromkeys(MOMENTS.values(), (1, channels, 1, 1))
        if isinstance(parts[SCHEDULER], BrownianBridgeScheduler):
            shapes |= {BRIDGE["source_map"]: (channels, sources, 1, 1), BRIDGE["source_shift"]: (channels,)}
    return shapes


def components(checkpoint: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Part → component with its weights, which are shared with the checkpoint, in evaluation mode.

    Args:
        name: of the checkpoint, for messages.

    Raises:
        CheckpointError: the checkpoint is incomplete, or holds what no part has a use for.
    """
    try:
        parts = skeletons(checkpoint[KEY])
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}") from error
    state = {key: value for key, value in checkpoint["state_dict"].items() if not key.startswith(OBJECTIVE)}
    require_weights(state, parts, checkpoint[KEY], name)
    for part, prefix in PREFIXES.items():
        if part in parts:
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            parts[part].load_state_dict(own, assign=True)
            parts[part].requires_grad_(False).eval()
    return parts


def require_denoiser(checkpoint: Mapping[str, Any], name: str) -> None:
    """Refuse an autoencoder alone, of which no pipeline can be made.

    Raises:
        CheckpointError
    """
    if checkpoint[KEY]["stage"] == AUTOENCODER:
        raise CheckpointError(
            f"{name} is an autoencoder alone (stage 1), which predicts nothing; init_from of stage 2 takes it"
        )


def beside(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a pipeline knows beside its components, as arguments of it: the latents' scale, and the record."""
    state, record = checkpoint["state_dict"], checkpoint[KEY]
    latents = {name: state[key] for name, key in (MOMENTS | BRIDGE).items() if key in state}
    kept = ("version", "stage", "spec", AUTOENCODER, CONDITION, "sampling", "trained_on")
    return {"latents": latents, "record": {key: record[key] for key in kept if key in record}}


def require_weights(
    state: Mapping[str, Tensor], parts: Mapping[str, Any], record: Mapping[str, Any], name: str
) -> None:
    """Refuse weights that are not exactly those of the parts, and latents of unknown scale.

    Raises:
        CheckpointError: listing all of them.
    """
    sources = len(DataSpec.from_plain(record["spec"]).source)
    faults = weight_faults(state, expected_shapes(parts, sources))
    for key in (*MOMENTS.values(), *BRIDGE.values()):
        if key in state and not state[key].isfinite().all():
            faults.append(f"{key} is not finite: the latents' scale was never estimated, train the denoiser first")
    if faults:
        listing = "\n  ".join(faults)
        raise CheckpointError(f"the weights of {name} are not those of its parts\n  {listing}")
