"""Which channels of a source a reader looks at: single ones, and the mean of a series, whose phases are noisy."""

import torch
from torch import Tensor

from ctp_ldm.scaling import SymmetricLog
from ctp_ldm.spec import Channel, DataSpec

SHOWN = 5
"""Single channels to look at, besides the mean of phases."""
DECISIVE = ("cbf", "tmax")
"""Maps that a treatment is decided by: they are among those shown, whatever else there is."""
ACRONYMS = ("adc", "cbf", "cbv", "ct", "ctp", "dwi", "flair", "mtt", "ncct", "t1", "t2")


def shown_sources(spec: DataSpec) -> tuple[Channel, ...]:
    """The channels to look at, as `look_at` makes them: a few single ones, and the mean of the phases of a series."""
    single, phases = _chosen(spec)
    shown = [spec.source[i] for i in single]
    if phases:
        scaling = spec.source[phases[0]].scaling
        # Values of both signs are differences from the image before contrast.
        name = "mean enhancement" if isinstance(scaling, SymmetricLog) else "mean of phases"
        shown.append(Channel(name, scaling))
    return tuple(shown)


def look_at(source: Tensor, spec: DataSpec) -> Tensor:
    """(B, Cs, H, W) as in a batch → (B, K, H, W) in the units of `shown_sources`."""
    single, phases = _chosen(spec)
    decoded = [spec.source[i].scaling.decode(source[:, i].float()) for i in (*single, *phases)]
    shown = decoded[: len(single)]
    if phases:
        shown.append(torch.stack(decoded[len(single) :]).mean(dim=0))
    return torch.stack(shown, dim=1)


def main_sources(count: int) -> list[int]:
    """Places, among so many shown sources, of the two that a small figure has room for.

    The first and the last: CT before contrast and the mean enhancement, or CBF and Tmax of maps alone.
    """
    return sorted({0, count - 1}) if count else []


def title(name: str) -> str:
    """What a heading calls a channel: "true CBF" of `true_cbf`."""
    if name == "ctp_baseline":
        return "CT before contrast"
    words = (word.upper() if word in ACRONYMS else word for word in name.split("_"))
    return " ".join("Tmax" if word == "tmax" else word for word in words)


def _chosen(spec: DataSpec) -> tuple[list[int], list[int]]:
    """Places of single channels and of phases, which are numbered; neighbouring slices are left out."""
    own = [(i, channel.name) for i, channel in enumerate(spec.source) if "@" not in channel.name]
    phases = [i for i, name in own if name.rpartition("_")[2].isdigit()]
    single = sorted((i for i, _ in own if i not in phases), key=lambda i: spec.source[i].name not in DECISIVE)
    return sorted(single[:SHOWN]), phases
