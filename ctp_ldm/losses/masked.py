"""Means over masks that may be empty."""

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` over masked pixels and all channels, over the whole batch.

    An empty mask gives 0 with zero gradients, not 0/0: a batch without lesion must not end a training run.

    Args:
        values: (B, C, ...).
        mask: (B, 1, ...) in [0, 1]; what adds up to less than one pixel counts that much less.

    Returns:
        Scalar, float32.
    """
    values, mask = values.float(), mask.float()
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1.0)
