"""The slices of some cases of a store, as a torch data set."""

import hashlib
import json
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ctp_ldm.data.augment import flip, move_slice
from ctp_ldm.data.sampling import Draw
from ctp_ldm.data.store import Kind, SliceStore
from ctp_ldm.sample import Showings

MOVE = "move"
ALL: tuple[Kind, ...] = ("source", "brain", "target", "lesion")


class SliceDataset(Dataset[dict[str, Any]]):
    """Every slice of the named cases in which the brain fills at least `min_brain` of the picture.

    An item is one row of a `Sample`, still in the store's half precision: it is converted where the model is, which
    halves what is copied on the way. Target and lesion are given when all the cases have them.

    Args:
        store: the slice store.
        cases: names, in order.
        min_brain: share of the picture, above 0; slices without brain are never given.
        context: neighbouring slices on each side that the source holds too, from below to above; beyond the first and
            last slice these are repeated.
        draw_move: a showing → how it is moved, (2, 3); None where slices stay.
        move_here: move slices here, each worker its own; else the item holds "move", for whole batches on the model's
            device.
        draw_flip: a showing → how it is flipped; None where slices are not, or by `draw_move`.
        kinds: the arrays that are wanted.
    """

    def __init__(
        self,
        store: SliceStore,
        cases: Sequence[str],
        min_brain: float = 0.0,
        context: int = 0,
        draw_move: Callable[[Draw], Tensor] | None = None,
        move_here: bool = True,
        draw_flip: Callable[[Draw], int] | None = None,
        kinds: Sequence[Kind] = ALL,
    ) -> None:
        self.store, self.context = store, context
        self.draw_move, self.move_here, self.draw_flip = draw_move, move_here, draw_flip
        records = [store.records[name] for name in cases]
        least = max(1.0, min_brain * store.spec.size[0] * store.spec.size[1])
        self.index = [(r.name, z) for r in records for z, voxels in enumerate(r.brain_voxels) if voxels >= least]
        absent = set() if all(r.has_target for r in records) else {"target"}
        absent |= set() if all(r.lesion_voxels is not None for r in records) else {"lesion"}
        self.kinds = [kind for kind in kinds if kind not in absent]

    @property
    def lesion(self) -> list[bool]:
        """Whether each slice has lesion."""
        counts = {name: self.store.records[name].lesion_voxels for name, _ in self.index}
        return [bool((counts[name] or {z: 0})[z]) for name, z in self.index]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        draw = item if isinstance(item, Draw) else Draw(item, 0, 0)
        case, z = self.index[draw.slice]
        depth = len(self.store.records[case].brain_voxels)
        neighbours = [min(max(z + k, 0), depth - 1) for k in range(-self.context, self.context + 1)]
        found: dict[str, Tensor] = {}
        for kind in self.kinds:
            if kind == "source":
                stored = self.store.read(case, kind, range(neighbours[0], neighbours[-1] + 1))
                values = np.concatenate([stored[n - neighbours[0]] for n in neighbours])
            else:
                values = self.store.read(case, kind, range(z, z + 1))[0]
            found[kind] = torch.from_numpy(values if values.ndim == 3 else values[None])
        where: dict[str, Any] = {"case": case, "slice_index": z}
        if self.draw_flip is not None:
            where["flip"] = self.draw_flip(draw)
            found = flip(found, where["flip"])
        if self.draw_move is not None:
            theta = self.draw_move(draw)
            if self.move_here:
                # The neighbours of a 2.5D source may be larger than the slice between them.
                brain = self.store.read(case, "brain", range(neighbours[0], neighbours[-1] + 1))
                found = move_slice(found, theta, np.any(brain, axis=0))
            else:
                found[MOVE] = theta
        return {**found, **where}


def showings_of(slices: SliceDataset, flips: Sequence[int], batch_size: int, **loading: Any) -> Showings:
    """Every target of a data set in every flip, slice by slice.

    Args:
        slices: those of training, with "target".
        flips: numbers, for `augment.flip`.
        batch_size: showings in a batch, at most.
        loading: further arguments of `DataLoader`.
    """
    draws = [Draw(number, 0, flip) for number in range(len(slices)) for flip in flips]
    slices.draw_flip = attrgetter("repeat")
    keys = [(*slices.index[draw.slice], draw.repeat) for draw in draws]
    targets = {case: slices.store.records[case].checksums["target"] for case, _, _ in keys}
    digest = hashlib.blake2b(json.dumps([targets, keys]).encode(), digest_size=8).hexdigest()
    batches = [draws[start : start + batch_size] for start in range(0, len(draws), batch_size)]
    # With a generator of its own, or training would draw other numbers after encoding than without.
    loader = DataLoader(slices, batch_sampler=batches, generator=torch.Generator(), **loading)
    return Showings(keys, digest, loader)
