"""Somebody else's diffusers folder: latent diffusion of stock networks, or an autoencoder alone."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctp_ldm.interop.compvis import require_finite
from ctp_ldm.interop.network import CLASSES, Network
from ctp_ldm.networks import ConfigError, build_scheduler, plain_config
from ctp_ldm.networks.build import FROM_DATA
from ctp_ldm.networks.schedule import SCHEDULERS
from ctp_ldm.pipeline.layout import PIPELINE, RECORD, SCALE_SETTINGS
from ctp_ldm.pipeline.weights import read_json, read_weights, weight_faults
from ctp_ldm.runs import CheckpointError

INDEX = "model_index.json"
AUTOENCODERS = ("VQModel", "AutoencoderKL")
DENOISER = "UNet2DModel"
FOREIGN_SCHEDULERS = tuple(name for name in SCHEDULERS if name != "BrownianBridgeScheduler")
UNSCALED = ("LDMSuperResolutionPipeline",)
"""Pipelines whose code decodes latents as they come from the denoiser, whatever the config's scaling_factor is."""
OLD_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""Of the autoencoder's attention before diffusers 0.15; diffusers renames them as well when it loads."""
EXPECTED = (
    f"expected one of {', '.join(AUTOENCODERS)}, one {DENOISER}, one of {', '.join(FOREIGN_SCHEDULERS)} and nothing "
    f"else, or an autoencoder alone"
)


@dataclass(frozen=True)
class LatentScale:
    """Standardised latents are (z − mean) / std.

    mean, std: (Cz,).
    origin: where they are from, in words.
    """

    mean: Tensor
    std: Tensor
    origin: str


@dataclass(frozen=True)
class DiffusersModel:
    """What a folder holds.

    autoencoder: `VQModel` or `AutoencoderKL`.
    denoiser, scheduler, scale: `UNet2DModel` of latents and reduced source, concatenated; the schedule's config; how
        its latents are scaled. None in the folder of an autoencoder alone.
    left_out: settings in the folder that nothing here has a use for.
    """

    autoencoder: Network
    denoiser: Network | None = None
    scheduler: Mapping[str, Any] | None = None
    scale: LatentScale | None = None
    left_out: list[str] = field(default_factory=list)


def read_diffusers(path: str | Path, scaling_factor: float | None = None) -> DiffusersModel:
    """Read a folder that diffusers' `save_pretrained` wrote, of a pipeline or of an autoencoder; from safetensors only.

    Args:
        scaling_factor: what the autoencoder's latents were multiplied with when the denoiser was trained, after the
            folder's shift; None to take it from the folder.

    Raises:
        CheckpointError: of other components, with weights that are unknown, missing or of another shape, not finite,
            pickled, of networks that are no latent diffusion by concatenation, or with latents of which nothing says
            the scale; the folder of a `CTPLDMPipeline` that lost its record.
    """
    folder = Path(path)
    if not (folder / INDEX).is_file():
        return DiffusersModel(_network(folder, _lonely(folder)))
    index = read_json(folder / INDEX)
    if index.get("_class_name") == PIPELINE:
        raise CheckpointError(
            f"{folder} is a {PIPELINE} without {RECORD}, in which its channels, scalings and sampling were; copy that "
            "file from the folder as it was written, or write the folder anew from its checkpoint"
        )
    autoencoder_part, denoiser_part, scheduler_part = _components(folder, index)
    autoencoder = _network(folder / autoencoder_part, index[autoencoder_part][1])
    denoiser = _network(folder / denoiser_part, DENOISER)
    _require_latent(folder, autoencoder, denoiser)
    scheduler, unknown = _scheduler(folder / scheduler_part, index[scheduler_part][1])
    options = [f"{INDEX}: {k}" for k, v in index.items() if not k.startswith("_") and not isinstance(v, list)]
    return DiffusersModel(
        autoencoder,
        denoiser,
        scheduler,
        _latent_scale(folder / autoencoder_part, autoencoder, str(index.get("_class_name")), scaling_factor),
        [*options, *(f"{scheduler_part}: {key}" for key in unknown)],
    )


def _components(folder: Path, index: Mapping[str, Any]) -> tuple[str, str, str]:
    """Names of the three parts: the folder may call them as it likes."""
    found = {name: str(v[1]) for name, v in index.items() if isinstance(v, list) and len(v) == 2 and v[1] is not None}
    kinds = (AUTOENCODERS, (DENOISER,), FOREIGN_SCHEDULERS)
    parts = [[name for name, kind in found.items() if kind in wanted] for wanted in kinds]
    if len(found) != len(kinds) or any(len(names) != 1 for names in parts):
        listing = ", ".join(f"{name}: {kind}" for name, kind in found.items()) or "no components"
        alone = next((f"; its autoencoder alone fits: convert {folder / name}" for name in parts[0]), "")
        raise CheckpointError(
            f"{folder} is a {index.get('_class_name')} of {listing}; {EXPECTED}. Save it of such parts: another "
            f"scheduler with {FOREIGN_SCHEDULERS[0]}.from_config(pipeline.scheduler.config){alone}"
        )
    return parts[0][0], parts[1][0], parts[2][0]


def _lonely(folder: Path) -> str:
    """The class of a folder that is one network."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is no diffusers folder (neither {INDEX} nor config.json): found "
            f"{sorted(path.name for path in folder.glob('*'))}"
        )
    kind = str(read_json(folder / "config.json").get("_class_name"))
    if kind not in AUTOENCODERS:
        raise CheckpointError(f"{folder} is a {kind} alone; {EXPECTED}: name the folder with {INDEX}")
    return kind


def _network(folder: Path, kind: str) -> Network:
    """A network of the class that the index says, with exactly the weights of its config."""
    content = read_json(folder / "config.json")
    if content.get("_class_name") != kind:
        raise CheckpointError(f"{folder / 'config.json'} is of a {content.get('_class_name')}; {INDEX} says {kind}")
    config = {k: v for k, v in content.items() if k == "_class_name" or not k.startswith("_")}
    inside, outside = (int(config.pop(key, 3)) for key in FROM_DATA)  # 3 is diffusers' default
    network = Network(config, inside, outside)
    try:
        expected = {name: tuple(tensor.shape) for name, tensor in network.skeleton().state_dict().items()}
    except ConfigError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    state = {_renamed(name, expected): tensor for name, tensor in read_weights(folder, kind).items()}
    faults = weight_faults(state, expected)
    if faults:
        raise CheckpointError(f"the weights in {folder} are not those of its config\n  " + "\n  ".join(faults))
    require_finite(folder, state)
    return Network(config, inside, outside, {name: state[name] for name in expected})


def _renamed(name: str, expected: Mapping[str, Any]) -> str:
    """A weight's name today."""
    for old, new in OLD_NAMES.items():
        if name not in expected and old in name:
            return name.replace(old, new)
    return name


def _require_latent(folder: Path, autoencoder: Network, denoiser: Network) -> None:
    """Denoiser and autoencoder belong together, and the condition is concatenated to the latents."""
    settings, unet = autoencoder.settings(), denoiser.settings()
    latents = settings["latent_channels"]
    faults = []
    if settings.get("vq_embed_dim") not in (None, latents):
        faults.append(
            f"the autoencoder's vq_embed_dim is {settings['vq_embed_dim']}; expected latent_channels ({latents})"
        )
    if denoiser.out_channels != latents:
        faults.append(f"the denoiser gives {denoiser.out_channels} channels; expected as many as latents ({latents})")
    elif denoiser.in_channels <= latents:
        faults.append(
            f"the denoiser takes {denoiser.in_channels} channels and latents have {latents}: it has no condition; "
            "expected a source that is concatenated to the latents"
        )
    conditioned = [key for key in ("class_embed_type", "num_class_embeds") if unet[key] is not None]
    if conditioned:
        faults.append(f"the denoiser is conditioned on classes ({', '.join(conditioned)}); expected none")
    if faults:
        raise CheckpointError(f"{folder}: " + "; ".join(faults) + ". The autoencoder alone may fit: convert its folder")


def _scheduler(folder: Path, kind: str) -> tuple[dict[str, Any], list[str]]:
    """The schedule's config with diffusers' own defaults, and the keys that its class does not know."""
    content = read_json(folder / "scheduler_config.json")
    known = inspect.signature(SCHEDULERS[kind]).parameters
    settings = {key: value for key, value in content.items() if key in known}
    try:
        # Not by build_scheduler alone: what is not said is diffusers' default here, not this project's.
        complete = plain_config(SCHEDULERS[kind](**settings))
        build_scheduler(complete, 1)
    except ValueError as error:
        raise CheckpointError(f"{folder / 'scheduler_config.json'}: {error}") from error
    return complete, [key for key in content if key not in known and not key.startswith("_")]


def _latent_scale(folder: Path, autoencoder: Network, pipeline: str, given: float | None) -> LatentScale:
    """As the pipeline's code scales latents between autoencoder and denoiser; never diffusers' default."""
    channels = autoencoder.settings()["latent_channels"]
    require_factor(given)
    config, file = autoencoder.config, folder / "config.json"
    if pipeline in UNSCALED:
        unscaled = f"{pipeline}, which does not scale latents"
        origin = unscaled if given is None else f"--scaling_factor, which overrides {unscaled}"
        return _scale(channels, 1.0 if given is None else given, None, None, origin)
    factor = config.get("scaling_factor") if given is None else given
    if not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise CheckpointError(
            f"{file} does not say the latents' scaling_factor (found {factor}), and the denoiser "
            "knows only latents of the scale that it was trained with; give it as --scaling_factor, 1 for latents as "
            f"the autoencoder makes them. The autoencoder alone needs none: convert {folder}"
        )
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        mean, std = config.get("shift_factor"), None
    keys = [key for key in SCALE_SETTINGS if config.get(key) is not None]
    origin = f"{' and '.join(keys)} in {file}"
    if given is not None:
        others = " and ".join(key for key in keys if key != "scaling_factor")
        origin = f"--scaling_factor, which overrides scaling_factor {config.get('scaling_factor')} in {file}"
        origin += f", and {others} there" if others else ""
    elif factor == _default_factor(str(config["_class_name"])):
        origin += (
            f"; {factor} is diffusers' default, which save_pretrained writes even where nobody chose it: give "
            "--scaling_factor if so, 1 for latents as the autoencoder makes them"
        )
    return _scale(channels, factor, mean, std, origin)


def require_factor(given: float | None) -> None:
    """Refuse a factor that latents cannot be divided by again.

    Raises:
        CheckpointError
    """
    if given is not None and not 0 < given < math.inf:
        raise CheckpointError(f"--scaling_factor is {given}; expected a finite number above 0")


def _default_factor(kind: str) -> float:
    """diffusers' own of an autoencoder's class."""
    return float(inspect.signature(CLASSES[kind]).parameters["scaling_factor"].default)


def _scale(
    channels: int, factor: float, mean: float | Sequence[float] | None, std: Sequence[float] | None, origin: str
) -> LatentScale:
    """diffusers standardises by (z − mean) · factor / std, with one number or one for each channel."""
    one = torch.ones(channels)
    shift = torch.as_tensor(0.0 if mean is None else mean).float() * one
    deviation = torch.as_tensor(1.0 if std is None else std).float() * one / factor
    return LatentScale(shift, deviation, origin)
