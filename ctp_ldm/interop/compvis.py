"""Checkpoints in the layout of CompVis' latent diffusion, which the published CTP-to-MRI systems share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctp_ldm.interop.autoencoder import autoencoder_architecture, autoencoder_links
from ctp_ldm.interop.denoiser import denoiser_architecture, denoiser_links
from ctp_ldm.interop.fold import fold
from ctp_ldm.interop.links import Link, to_compvis, to_diffusers
from ctp_ldm.interop.naming import AUTOENCODER, COUNTERS, DENOISER, MAPPER, MEANINGLESS, PREDICTIONS, SCALE, averages
from ctp_ldm.interop.network import Network
from ctp_ldm.interop.schedule import ALPHAS, BUFFERS
from ctp_ldm.interop.untrusted import read_untrusted
from ctp_ldm.networks import ConfigError
from ctp_ldm.runs import CheckpointError

LISTED = 12


@dataclass(frozen=True)
class CompVisModel:
    """A published model as diffusers networks, and what it takes to write it back unchanged.

    autoencoder: `VQModel` or `AutoencoderKL`.
    denoiser: `UNet2DModel` of latents and mapped source, concatenated; None in the checkpoint of an autoencoder alone.
    mapper: (mapped channels, source channels, 1, 1), weight of the 1 × 1 convolution between the source, reduced to
        the latent grid, and the denoiser; None where there is none: in what was read, without a condition or denoiser.
    alphas_cumprod: ᾱ (T,) of the noise schedule; None in the checkpoint of an autoencoder alone.
    prediction_type: what the denoiser puts out, in diffusers' word.
    scale_factor: what the autoencoder's latents are multiplied with before noise is added.
    averaged: the weights are the running average over training (EMA), of the denoiser or of an autoencoder alone.
    ignored: names in the file that no network here has a use for.
    buffers: those of them that belong to the layout and are written back: the schedule's other buffers, the counters of
        the running average, the tensor of scale_factor.
    epoch, global_step: how long it was trained.
    """

    autoencoder: Network
    denoiser: Network | None = None
    mapper: Tensor | None = field(default=None, repr=False)
    alphas_cumprod: Tensor | None = field(default=None, repr=False)
    prediction_type: str = "epsilon"
    scale_factor: float = 1.0
    averaged: bool = False
    ignored: list[str] = field(default_factory=list, repr=False)
    buffers: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    epoch: int = 0
    global_step: int = 0

    def folded(self) -> Network:
        """The denoiser of latents and reduced source, concatenated: the mapper is part of it (see `fold`).

        Raises:
            CheckpointError: an autoencoder alone.
        """
        if self.denoiser is None:
            raise CheckpointError("the checkpoint is of an autoencoder alone; it has no denoiser")
        return self.denoiser if self.mapper is None else fold(self.denoiser, self.mapper)


def read_compvis(
    path: str | Path, head_width: int = 32, norm_groups: int = 32, parameterization: str = "eps"
) -> CompVisModel:
    """Read an autoencoder or a latent diffusion model; all sizes follow from the weights.

    Where the file has averaged weights they are what is read, because the published samples are made with them.

    Args:
        head_width: of the denoiser's attention, num_head_channels in its config, which the weights do not tell.
        norm_groups: groups of every normalisation, likewise.
        parameterization: what the denoiser puts out, in the word of CompVis' configs (see `PREDICTIONS`), likewise.

    Raises:
        CheckpointError: not to be read (see `read_untrusted`), of another layout, of networks that diffusers' classes
            are not, or with weights that are unknown, missing, of the wrong shape or not finite, all of which it lists.
    """
    path = Path(path)
    state, record = read_untrusted(path)
    has_denoiser, prefix = _find(path, state)
    weights = _under(prefix, state)
    scale_factor = float(state[SCALE].flatten()[0]) if SCALE in state and state[SCALE].numel() else 1.0
    denoiser = None
    try:
        autoencoder = autoencoder_architecture(weights, scale_factor, norm_groups)
        links = {prefix: autoencoder_links(autoencoder)}
        expected = _shapes(prefix, links[prefix], autoencoder)
        if has_denoiser:
            latents = autoencoder.config["latent_channels"]
            denoiser = denoiser_architecture(_under(DENOISER, state), latents, head_width, norm_groups)
            links[DENOISER] = denoiser_links(denoiser)
            expected |= _shapes(DENOISER, links[DENOISER], denoiser) | _shapes_beside(state, denoiser)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}: {error}") from error

    if SCALE in state and state[SCALE].numel() != 1:
        expected[SCALE] = ()
    main = DENOISER if has_denoiser else prefix
    live = averages((f"{main}{link.theirs}" for link in links[main]), main)
    averaged = any(average in state for average in live.values())
    if averaged:
        expected |= {average: expected[name] for name, average in live.items()}
    kept = [name for name in state if name in (*BUFFERS, *COUNTERS, SCALE) and name != ALPHAS]
    meaningless = [name for name in state if name not in expected and MEANINGLESS.fullmatch(name)]
    _require(path, state, expected, {*kept, *meaningless})
    if averaged:
        state = {**state, **{name: state[average] for name, average in live.items()}}
    # Of the schedule's other buffers some are infinite by right, as log(1 − ᾱ) is where ᾱ is 1.
    require_finite(path, {name: state[name] for name in expected if name not in BUFFERS or name == ALPHAS})

    return CompVisModel(
        autoencoder=replace(autoencoder, state=to_diffusers(links[prefix], _under(prefix, state))),
        denoiser=denoiser and replace(denoiser, state=to_diffusers(links[DENOISER], _under(DENOISER, state))),
        mapper=state[MAPPER] if MAPPER in expected else None,
        alphas_cumprod=state[ALPHAS] if ALPHAS in expected else None,
        prediction_type=PREDICTIONS[parameterization],
        scale_factor=scale_factor,
        averaged=averaged,
        ignored=[name for name in kept if name != SCALE] + meaningless + (list(live) if averaged else []),
        buffers={name: state[name] for name in kept},
        epoch=_whole(record.get("epoch")),
        global_step=_whole(record.get("global_step")),
    )


def few(names: Sequence[str]) -> str:
    """The first of many names, for messages."""
    more = f"; … and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return "; ".join(names[:LISTED]) + more


def require_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse a model that would put out nothing but NaN.

    Raises:
        CheckpointError: listing the weights that have NaN or infinite values.
    """
    faults = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if faults:
        raise CheckpointError(
            f"weights in {path} are not finite (NaN or infinite): {few(faults)}; expected numbers. Its training "
            "diverged or the file is damaged: take an earlier checkpoint, or the original anew"
        )


def _find(path: Path, state: Mapping[str, Tensor]) -> tuple[bool, str]:
    """Whether there is a denoiser, and the prefix of the autoencoder's weights."""
    has_denoiser = any(name.startswith(DENOISER) for name in state)
    if has_denoiser or any(name.startswith(AUTOENCODER) for name in state):
        return has_denoiser, AUTOENCODER
    if not any(name.startswith(("encoder.", "decoder.")) for name in state):
        raise CheckpointError(
            f"{path} is not in CompVis' layout: no weight is called {DENOISER}*, {AUTOENCODER}* or encoder.*; its "
            f"first is {next(iter(state))!r}"
        )
    return False, ""


def _shapes(prefix: str, links: Sequence[Link], network: Network) -> dict[str, tuple[int, ...]]:
    """Names and shapes that a network's weights should have in the file."""
    shapes = to_compvis(links, network.skeleton().state_dict())
    return {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in shapes.items()}


def _shapes_beside(state: Mapping[str, Tensor], denoiser: Network) -> dict[str, tuple[int, ...]]:
    """The same for what a model has beside its networks; only the schedule's ᾱ has to be there of all its buffers."""
    steps = next((len(state[name]) for name in (ALPHAS, *BUFFERS) if name in state and state[name].ndim), 1)
    expected: dict[str, tuple[int, ...]] = {name: (steps,) for name in BUFFERS if name in state or name == ALPHAS}
    if denoiser.in_channels != denoiser.out_channels or MAPPER in state:
        # How many channels the source has before the mapper is the mapper's own affair.
        shape = state[MAPPER].shape if MAPPER in state else ()
        expected[MAPPER] = (denoiser.in_channels - denoiser.out_channels, shape[1] if len(shape) > 1 else 1, 1, 1)
    return expected


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _require(
    path: Path, state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], others: set[str]
) -> None:
    """Every weight is there, nothing else is, and all shapes are right."""
    faults = {
        "unknown": [name for name in state if name not in expected and name not in others],
        "missing": [name for name in expected if name not in state],
        "of another shape": [
            f"{name} {tuple(state[name].shape)}, expected {shape}"
            for name, shape in expected.items()
            if name in state and tuple(state[name].shape) != shape
        ],
    }
    if any(faults.values()):
        listing = "\n".join(f"  {kind}: {few(names)}" for kind, names in faults.items() if names)
        raise CheckpointError(f"the weights in {path} do not make up networks that are known here\n{listing}")


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
