"""Sums over slices that come in any order, from any process, as sums over patients."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ctp_ldm.sample import Sample

NAME_BYTES = 100
PatientTable = dict[str, dict[str, float]]


class PatientSums(Metric):
    """Base of metrics whose patients are sums over their slices.

    A slice that comes twice (a distributed sampler pads with repeats) counts once.
    """

    full_state_update = False
    names: list[Tensor]
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("names", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def add(self, sample: Sample, columns: Sequence[Tensor]) -> None:
        """Add slices: for each column (B,) what is summed up."""
        self.rows.append(torch.stack([sample["slice_index"].double(), *columns], dim=1))
        self.names.append(torch.stack([_to_bytes(name) for name in sample["case"]]).to(columns[0].device))

    def sums(self) -> dict[str, list[float]]:
        """Patient → sum of each column, patients in order of their names."""
        if len(self.rows) == 0:
            return {}
        rows = torch.cat(list(self.rows)).cpu() if isinstance(self.rows, list) else self.rows.cpu()
        names = torch.cat(list(self.names)).cpu() if isinstance(self.names, list) else self.names.cpu()
        slices: dict[str, dict[int, Tensor]] = defaultdict(dict)
        for name, row in zip(names, rows, strict=True):
            slices[_from_bytes(name)][int(row[0])] = row[1:]
        return {case: torch.stack(list(slices[case].values())).sum(0).tolist() for case in sorted(slices)}


def sum_pixels(values: Tensor) -> Tensor:
    """(B, 1, H, W) → (B,)."""
    return values.double().flatten(1).sum(1)


def _to_bytes(name: str) -> Tensor:
    """Strings travel between processes as fixed rows of bytes."""
    encoded = name.encode()
    if len(encoded) > NAME_BYTES:
        raise ValueError(f"case name {name!r} is longer than {NAME_BYTES} bytes")
    return torch.tensor(list(encoded.ljust(NAME_BYTES, b"\0")), dtype=torch.uint8)


def _from_bytes(row: Tensor) -> str:
    return bytes(row.tolist()).rstrip(b"\0").decode()
