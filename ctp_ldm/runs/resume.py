"""Which checkpoint a run goes on from, and what has changed since."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_warn

from ctp_ldm.runs.files import CheckpointError, read_checkpoint, require_whole
from ctp_ldm.runs.folder import CHECKPOINTS, LAST, PREVIOUS

CANDIDATES = (LAST, PREVIOUS, "best.ckpt")
KEPT = ("model.init_args.optimizer", "model.init_args.lr_scheduler", "lr_per_sample")
"""Settings that are part of a checkpoint: optimiser and schedule go on as they were."""
UNIMPORTANT = ("trainer.default_root_dir", "model.init_args.cache_latents", "ckpt_path", "init_from", "config")


def newest_whole(folder: Path) -> Path | None:
    """The newest undamaged checkpoint of a run's folder; None where there is none at all.

    Raises:
        CheckpointError: there are some, all of them damaged.
    """
    found = [path for name in CANDIDATES if (path := folder / CHECKPOINTS / name).is_file()]
    faults = []
    for path in found:
        try:
            require_whole(path)
            read_checkpoint(path)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            rank_zero_warn(f"{fault}; going on from {path}")
        return path
    if faults:
        raise CheckpointError(
            "no checkpoint of this run is whole; move them away to start anew:\n  " + "\n  ".join(faults)
        )
    return None


def changed_settings(before: str, now: str) -> list[str]:
    """Differences between the config that a checkpoint was trained with and the one it is to go on with.

    Args:
        before, now: as YAML.

    Returns:
        A line for each, saying whether it has an effect.
    """
    old, new = (dict(_leaves(yaml.safe_load(text) or {})) for text in (before, now))
    lines = []
    for key in sorted(old.keys() | new.keys()):
        was, is_now = old.get(key), new.get(key)
        if was == is_now or _within(key, UNIMPORTANT):
            continue
        effect = "the checkpoint's goes on" if _within(key, KEPT) else "the new one holds"
        lines.append(f"{key}: {_shown(was)} → {_shown(is_now)} ({effect})")
    return lines


def _within(key: str, sections: tuple[str, ...]) -> bool:
    return any(f"{key}.".startswith(f"{section}.") for section in sections)


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        value = dict(enumerate(value))
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
