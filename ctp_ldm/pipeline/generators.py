"""Which noise each slice gets: that of its case and place, or of generators that the caller gives."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ctp_ldm.networks import slice_generators


def given_generators(
    size: int,
    seed: int,
    case: str | Sequence[str],
    slice_index: Sequence[int] | Tensor | None,
    generator: torch.Generator | list[torch.Generator] | None,
) -> list[torch.Generator]:
    """One generator for each slice.

    Args:
        size: how many slices.
        seed: of sampling.
        case, slice_index, generator: see `CTPLDMPipeline.__call__`.

    Raises:
        ValueError: another number of them than slices, or generators that are not on the CPU.
    """
    if generator is not None:
        chosen = generator if isinstance(generator, list) else [generator] * size
        if len(chosen) != size or any(g.device.type != "cpu" for g in chosen):
            raise ValueError(f"generator: expected one, or {size} for as many slices, on the CPU: {chosen}")
        return chosen
    cases = [case] * size if isinstance(case, str) else list(case)
    indices = [int(i) for i in (range(size) if slice_index is None else slice_index)]
    if len(cases) != size or len(indices) != size:
        raise ValueError(
            f"case names {len(cases)} and slice_index {len(indices)} slices; expected {size}, one for each"
        )
    return slice_generators(seed, cases, indices)
