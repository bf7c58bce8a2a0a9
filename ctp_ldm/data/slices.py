"""The slices of some cases of a store, as a torch data set."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ctp_ldm.data.store import SliceStore

Augmentation = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


class SliceDataset(Dataset[dict[str, Any]]):
    """Every slice of the named cases in which the brain fills at least `min_brain` of the picture.

    An item is one row of a `Sample`. Target and lesion are given when all the cases have them.

    Args:
        store: the slice store.
        cases: names, in order.
        min_brain: share of the picture, above 0; slices without brain are never given.
        augmentation: applied to the arrays of an item, each (C, H, W).
    """

    def __init__(
        self,
        store: SliceStore,
        cases: Sequence[str],
        min_brain: float = 0.0,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.store, self.augmentation = store, augmentation
        records = [store.records[name] for name in cases]
        least = max(1.0, min_brain * store.spec.size[0] * store.spec.size[1])
        self.index = [(r.name, z) for r in records for z, voxels in enumerate(r.brain_voxels) if voxels >= least]
        self.kinds = ["source", "brain"]
        if all(r.has_target for r in records):
            self.kinds.append("target")
        if all(r.lesion_voxels is not None for r in records):
            self.kinds.append("lesion")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> dict[str, Any]:
        case, z = self.index[i]
        arrays = {}
        for kind in self.kinds:
            values = np.array(self.store.array(case, kind)[z], dtype=np.float32)  # type: ignore[arg-type]
            arrays[kind] = torch.from_numpy(values if values.ndim == 3 else values[None])
        if self.augmentation is not None:
            arrays = self.augmentation(arrays)
        return {**arrays, "case": case, "slice_index": z}
