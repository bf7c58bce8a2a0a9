"""What every term of an objective has, and an own one from a config."""

import pytest
import torch
from torch import Tensor

from ctp_ldm.losses import PixelTerm
from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample
from losses.heads import from_yaml, random_head, spec_of


class Mean(PixelTerm):
    """A term of one's own."""

    def forward(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
        return decoded.mean()


def test_an_own_term_needs_no_more_than_its_value() -> None:
    term = from_yaml("""
    terms:
      - class_path: losses.test_term.Mean
        init_args: {weight: 0.5, name: mean, timesteps: [100, 200]}
    """)
    spec = spec_of()
    term.bind(spec)
    decoded, target, sample = random_head()
    assert (term.weight, term.name, term.timesteps) == (0.5, "mean", (100, 200))
    assert term.spec is spec
    assert torch.equal(term(decoded, target, sample), decoded.mean())
    assert term.own_loss(decoded, target, sample) is None


@pytest.mark.parametrize("weight", [-0.1, float("nan")])
def test_a_weight_that_is_not_at_least_zero_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match=r"the weight of loss term 'mean' is .*; expected at least 0"):
        Mean(weight, "mean")


@pytest.mark.parametrize("timesteps", [(-1, 5), (5, 5), (7, 5)])
def test_timesteps_that_are_no_range_are_refused(timesteps: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"timesteps of loss term 'mean' are \[.*\]; expected 0 ≤ first < end"):
        Mean(1.0, "mean", timesteps)
