"""Which tensor of one layout is which of the other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Link:
    """One tensor that is the same in both layouts.

    theirs: its name in a CompVis checkpoint.
    ours: its name, or the names of its parts, in a diffusers model.
    """

    theirs: str
    ours: tuple[str, ...]

    def to_ours(self, tensor: Tensor) -> list[Tensor]:
        return [tensor]

    def to_theirs(self, tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0]


@dataclass(frozen=True)
class Pointwise(Link):
    """The weight (C, C') of a linear layer, there that of a convolution with a kernel of size 1 along `axes` axes."""

    axes: int

    def to_ours(self, tensor: Tensor) -> list[Tensor]:
        return [tensor.flatten(1)]

    def to_theirs(self, tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0].reshape(*tensors[0].shape, *[1] * self.axes)


@dataclass(frozen=True)
class PackedHeads(Link):
    """Query, key and value of attention, there one tensor (3C, …).

    The rows are ordered by head first and by query, key, value within a head: openaimodel's `QKVAttentionLegacy`, which
    is what it uses unless `use_new_attention_order` is set.

    axes: trailing axes of size 1 that their weight (3C, C, 1) has more than a linear layer's.
    """

    heads: int
    axes: int

    def to_ours(self, tensor: Tensor) -> list[Tensor]:
        rows = tensor.reshape(self.heads, 3, -1, *tensor.shape[1 : tensor.ndim - self.axes])
        return [part.flatten(0, 1).contiguous() for part in rows.unbind(1)]

    def to_theirs(self, tensors: Sequence[Tensor]) -> Tensor:
        rest = tensors[0].shape[1:]
        rows = torch.stack([t.reshape(self.heads, -1, *rest) for t in tensors], dim=1)
        return rows.reshape(-1, *rest, *[1] * self.axes)


def plain(theirs: str, ours: str) -> list[Link]:
    """Weight and bias of a layer that is the same in both."""
    return [Link(f"{theirs}.{kind}", (f"{ours}.{kind}",)) for kind in ("weight", "bias")]


def pointwise(theirs: str, ours: str, axes: int) -> list[Link]:
    """Weight and bias of a linear layer that is a convolution there."""
    return [Pointwise(f"{theirs}.weight", (f"{ours}.weight",), axes), Link(f"{theirs}.bias", (f"{ours}.bias",))]


def packed_heads(theirs: str, ours: Sequence[str], heads: int) -> list[Link]:
    """Weight and bias of three linear layers that are one 1D convolution there."""
    return [
        PackedHeads(f"{theirs}.{kind}", tuple(f"{name}.{kind}" for name in ours), heads, axes)
        for kind, axes in (("weight", 1), ("bias", 0))
    ]


def existing(links: Iterable[Link], names: Iterable[str]) -> list[Link]:
    """Those of some possible links whose tensors the model has."""
    known = set(names)
    return [link for link in links if known.issuperset(link.ours)]


def to_diffusers(links: Iterable[Link], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under diffusers' names; `state` has every tensor of `links` in the expected shape."""
    return {
        name: part for link in links for name, part in zip(link.ours, link.to_ours(state[link.theirs]), strict=True)
    }


def to_compvis(links: Iterable[Link], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under CompVis' names, the inverse of `to_diffusers`."""
    return {link.theirs: link.to_theirs([state[name] for name in link.ours]) for link in links}
