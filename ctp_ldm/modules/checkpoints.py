"""What a checkpoint says of itself, and starting one stage from another's file."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ctp_ldm import __version__
from ctp_ldm.networks import MEAN, ForwardProcess, build_scheduler
from ctp_ldm.pipeline.layout import OBJECTIVE
from ctp_ldm.runs.files import KEY, CheckpointError
from ctp_ldm.spec import DataSpec

SOURCELESS = "autoencoder"
"""The stage that never sees the source: one autoencoder serves every source of the same targets."""
TERMS = OBJECTIVE
"""Weights of loss terms (a frozen segmenter, say) belong to the objective, not to the model."""


NO_FUNCTION = {
    "sample_size",
    "dropout",
    "scaling_factor",
    "shift_factor",
    "latents_mean",
    "latents_std",
    "force_upcast",
}
"""Settings of networks that do not change what trained ones compute here."""


def identity(stage: str, spec: DataSpec, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The record that every checkpoint carries under the key `ctp_ldm`: enough to build the model again.

    Args:
        parts: `TranslationModule.describe`.
    """
    return {"version": __version__, "stage": stage, "spec": spec.to_plain(), **parts}


def case_digest(case: str) -> str:
    """What a checkpoint says of a patient it was trained on: enough to recognise the name, not to read it."""
    return hashlib.sha256(case.encode()).hexdigest()[:16]


def require_compatible(
    checkpoint: Mapping[str, Any],
    stages: tuple[str, ...],
    spec: DataSpec,
    name: str,
    module: str,
    any_source: bool = False,
) -> None:
    """Refuse a checkpoint of another stage or of other scalings.

    Args:
        checkpoint: from `read_checkpoint`, or as Lightning loaded it.
        stages: the stages that are welcome.
        spec: of the data that the model will see.
        name, module: of the checkpoint and the module, for messages.
        any_source: whether the model does not look at the source, as an autoencoder never does.

    Raises:
        CheckpointError, SpecMismatch
    """
    record = checkpoint.get(KEY)
    if record is None:
        raise CheckpointError(f"{name} is not a checkpoint of ctp-ldm (no key {KEY!r})")
    if record.get("stage") not in stages:
        raise CheckpointError(
            f"{name} is of stage {record.get('stage')!r}; {module} expects {' or '.join(map(repr, stages))}"
        )
    trained_on = DataSpec.from_plain(record["spec"], name)
    if any_source or record["stage"] == SOURCELESS:
        trained_on = replace(trained_on, source=spec.source)
    spec.require_same(
        trained_on,
        "the data",
        f"the checkpoint {name}",
        "a model can only be used with the channels, scalings and grid it was trained on",
    )


def require_finite(state: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights that are no numbers: what they compute would be none either.

    Raises:
        CheckpointError: naming the first of them.
    """
    bad = [key for key, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise CheckpointError(
            f"{name} holds weights that are NaN or infinite: {', '.join(bad[:5])}{', …' if len(bad) > 5 else ''} "
            f"({len(bad)} of {len(state)}); take an earlier checkpoint of that run, or train again"
        )


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], prefix: str, name: str) -> None:
    """Load every weight under `prefix` from a state dict, no more, no fewer, of the same shapes.

    Raises:
        CheckpointError: listing what is missing, left over, of another shape or not finite.
    """
    mine = {k: v for k, v in module.state_dict().items() if k.startswith(prefix) and not k.startswith(TERMS)}
    theirs = {k: v for k, v in state.items() if k.startswith(prefix) and not k.startswith(TERMS)}
    faults = [f"missing in the checkpoint: {k}" for k in mine if k not in theirs]
    faults += [f"unknown to the model: {k}" for k in theirs if k not in mine]
    faults += [
        f"{k}: {tuple(theirs[k].shape)} in the checkpoint, {tuple(mine[k].shape)} in the model"
        for k in mine
        if k in theirs and mine[k].shape != theirs[k].shape
    ]
    if faults or not theirs:
        listing = "\n  ".join(faults[:8]) + (f"\n  … and {len(faults) - 8} more" if len(faults) > 8 else "")
        raise CheckpointError(
            f"the weights{f' {prefix}*' if prefix else ''} in {name} do not fit the model; give both stages the same "
            "network config\n"
            f"  {listing or 'no weight matches'}"
        )
    require_finite(theirs, name)
    module.load_state_dict(theirs, strict=False)


def require_same_networks(mine: Mapping[str, Any], theirs: Mapping[str, Any], name: str) -> None:
    """Refuse weights of networks with the same shapes but another function: other heads, normalisation, codebook.

    Args:
        mine, theirs: `TranslationModule.describe` of the model, and the record of the checkpoint.
        name: of the checkpoint, for messages.

    Raises:
        CheckpointError: listing every setting that differs.
    """
    here, there = _networks(mine), _networks(theirs)
    faults = [
        f"{part}.{key} is {there[part].get(key)} there, {value} here"
        for part in here
        if part in there
        for key, value in here[part].items()
        if key not in NO_FUNCTION and there[part].get(key) != value
    ]
    if faults:
        raise CheckpointError(
            f"the networks of {name} are not those of the config; give both stages the same\n  " + "\n  ".join(faults)
        )


def _networks(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Part → settings, with what goes without saying said."""
    parts = {part: dict(record[part]) for part in ("autoencoder", "denoiser") if record.get(part)}
    if "autoencoder" in parts:
        parts["autoencoder"].setdefault("unshuffle", 1)
    if "denoiser" in parts:
        parts["condition"] = dict(record.get("condition") or MEAN)
    return parts


def require_same_process(mine: ForwardProcess, scheduler: Mapping[str, Any] | None, name: str) -> None:
    """Refuse a denoiser that was trained to put out something else, or on other noise.

    Args:
        scheduler: config in the record of the checkpoint; None where it holds no denoiser.

    Raises:
        CheckpointError
    """
    if scheduler is None:
        return
    theirs = ForwardProcess.of(build_scheduler(scheduler, 1))
    if not mine.same_as(theirs):
        raise CheckpointError(
            f"the denoiser in {name} was trained with another schedule: {_in_words(theirs)}; the config has "
            f"{_in_words(mine)}; give the base's scheduler section"
        )


def _in_words(process: ForwardProcess) -> str:
    last = process.signal[-1].item() / max(process.noise[-1].item(), 1e-12)
    return f"prediction_type {process.kind}, {process.timesteps} timesteps, signal / noise {last:.3g} at the last"
