"""All that training can show, where slices are flipped at most: what latents are encoded of beforehand."""

import hashlib
import json
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch.utils.data import DataLoader

from ctp_ldm.data.sampling import Draw
from ctp_ldm.data.slices import SliceDataset
from ctp_ldm.sample import Showings


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
