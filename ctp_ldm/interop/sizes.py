"""Sizes of a network, read off its weights."""

import re
from collections import Counter
from collections.abc import Mapping

from torch import Tensor


def agreed(state: Mapping[str, Tensor], *places: tuple[str, int], default: int) -> int:
    """The size that most weights agree on, so that one wrong or missing weight is found out by the others.

    Args:
        places: patterns of whole names, and the axis to look at.
        default: where no weight says.
    """
    votes = Counter(
        tensor.shape[axis]
        for pattern, axis in places
        for name, tensor in state.items()
        if re.fullmatch(pattern, name) and tensor.ndim > axis
    )
    return votes.most_common(1)[0][0] if votes else default


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number that the pattern's group finds at the beginning of a name; 0 for none."""
    found = (re.match(pattern, name) for name in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def has(state: Mapping[str, Tensor], pattern: str) -> bool:
    """Whether a name begins with the pattern."""
    return any(re.match(pattern, name) for name in state)
