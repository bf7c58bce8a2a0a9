"""How much each target channel counts in a loss."""

import difflib
import math
from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from ctp_ldm.networks import ConfigError


def channel_factors(weights: Mapping[str, float] | None, names: Sequence[str]) -> Tensor:
    """Factors of mean 1, so that a loss keeps its size whatever the weights.

    Args:
        weights: name → relative weight. A target without entry counts 1; an entry that is no target is warned of and
            ignored, so that weights written for DWI and ADC serve ADC alone. None for equal ones.
        names: of the targets, in channel order.

    Returns:
        (1, C, 1, 1), float32.

    Raises:
        ConfigError: a negative weight, none above 0 among the targets, or a name that looks like a target's misspelt.
    """
    given = dict(weights or {})
    strangers = [name for name in given if name not in names]
    for name in strangers:
        near = difflib.get_close_matches(name, names, 1)
        if near:
            raise ConfigError(
                f"channel_weights name {name!r}, which is no target of {list(names)}; did you mean {near[0]}?"
            )
    if strangers:
        rank_zero_warn(f"channel_weights name {strangers}, but the targets are {list(names)}; these are ignored")
    factors = [float(given.get(name, 1.0)) for name in names]
    if not all(0 <= value < math.inf for value in given.values()) or sum(factors) == 0:
        raise ConfigError(
            f"channel_weights are {given} where the targets are {list(names)}; expected numbers of at least 0, and one "
            "above 0 among the targets"
        )
    result = torch.tensor(factors, dtype=torch.float32).view(1, -1, 1, 1)
    return result / result.mean()
