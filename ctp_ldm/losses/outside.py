"""Images that differ inside the brain only."""

import torch
from torch import Tensor

from ctp_ldm.sample import Sample


def with_real_outside(decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
    """The decoded image in the brain and the real one around it, which is physical 0 there, as it is in predictions.

    For terms that look at neighbourhoods: what a decoder leaves outside the brain is discarded in the end, and must
    neither be paid for nor give a synthetic image away.

    Args:
        decoded, target: (B, Ct, H, W).
        sample: the batch, for the brain mask.

    Returns:
        (B, Ct, H, W), with gradient to `decoded` in the brain.
    """
    return torch.where(sample["brain"] > 0, decoded, target)
