"""Channel factors by hand."""

import warnings

import pytest
import torch

from ctp_ldm.losses import channel_factors
from ctp_ldm.networks import ConfigError

BOTH = ["dwi", "adc"]


@pytest.mark.parametrize(
    ("weights", "names", "expected"),
    [
        (None, BOTH, [1.0, 1.0]),
        ({}, BOTH, [1.0, 1.0]),
        ({"adc": 3.0, "dwi": 1.0}, BOTH, [0.5, 1.5]),
        ({"adc": 3.0}, BOTH, [0.5, 1.5]),
        ({"dwi": 5.0, "adc": 5.0}, BOTH, [1.0, 1.0]),
        ({"dwi": 0.0}, BOTH, [0.0, 2.0]),
        ({"b": 4.0}, ["a", "b", "c"], [0.5, 2.0, 0.5]),
        ({"adc": 3.0}, ["adc"], [1.0]),
    ],
)
def test_factors_have_mean_one_in_channel_order(
    weights: dict[str, float] | None, names: list[str], expected: list[float]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        factors = channel_factors(weights, names)
    assert factors.dtype == torch.float32
    torch.testing.assert_close(factors, torch.tensor(expected).view(1, -1, 1, 1))


def test_weights_of_channels_that_are_not_there_are_told_and_ignored() -> None:
    with pytest.warns(UserWarning, match=r"channel_weights name \['dwi'\], but the targets are \['adc', 'flair'\]"):
        factors = channel_factors({"dwi": 7.0, "adc": 3.0}, ["adc", "flair"])
    assert factors.flatten().tolist() == [1.5, 0.5]


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        ({"dwi": -1.0, "adc": 2.0}, BOTH),
        ({"dwi": 0.0, "adc": 0.0}, BOTH),
        ({"dwi": 1.0, "adc": 0.0}, ["adc"]),
        ({"dwi": -1.0}, ["adc"]),
        ({"dwi": float("nan")}, BOTH),
        ({"dwi": float("inf")}, BOTH),
    ],
    ids=["negative", "all 0", "0 for all there are", "negative of another", "not a number", "infinite"],
)
@pytest.mark.filterwarnings("ignore:channel_weights name")
def test_weights_without_meaning_are_refused(weights: dict[str, float], names: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"channel_weights are .* where the targets are .*; expected numbers of at"):
        channel_factors(weights, names)


def test_a_misspelt_channel_is_refused_and_another_tasks_channel_is_not() -> None:
    with pytest.raises(ConfigError, match=r"'acd', which is no target of .*did you mean adc"):
        channel_factors({"dwi": 1.0, "acd": 3.0}, ["dwi", "adc"])
    with pytest.warns(UserWarning, match="these are ignored"):
        channel_factors({"dwi": 1.0, "adc": 3.0}, ["flair"])
