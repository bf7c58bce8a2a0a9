"""How the source comes to the latent grid."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from ctp_ldm.networks import MEAN, ConditionEncoder, ConfigError, build_condition, describe_condition

SPACE = {"_class_name": "SpaceToDepth"}
ENCODER = {"_class_name": "ConditionEncoder", "block_out_channels": [8, 16], "norm_num_groups": 4}


@pytest.fixture
def source() -> torch.Tensor:
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


def build(config: dict[str, Any] | None, factor: int = 4) -> Any:
    torch.manual_seed(0)
    return build_condition(config, 3, factor)


@pytest.mark.parametrize("config", [None, dict(MEAN)])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_mean_is_that_of_pooling_to_the_bit(
    config: dict[str, Any] | None, factor: int, source: torch.Tensor
) -> None:
    condition = build(config, factor)
    assert condition.out_channels == 3
    assert torch.equal(condition(source), F.avg_pool2d(source, factor))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_space_to_depth_loses_no_pixel(factor: int, source: torch.Tensor) -> None:
    """Channel c · f² + i · f + j of a latent pixel is its pixel (i, j) of channel c."""
    condition = build(SPACE, factor)
    found = condition(source)
    assert found.shape == (2, condition.out_channels, 16 // factor, 24 // factor)
    for channel in range(3):
        for i in range(factor):
            for j in range(factor):
                expected = source[:, channel, i::factor, j::factor]
                assert torch.equal(found[:, channel * factor**2 + i * factor + j], expected)


def test_an_encoder_is_convolutions_that_halve_the_grid(source: torch.Tensor) -> None:
    condition = build(ENCODER)
    state, expected = condition.state_dict(), source
    for block in (0, 3):
        weight, bias = (state[f"blocks.{block}.{name}"] for name in ("weight", "bias"))
        expected = F.conv2d(expected, weight, bias, stride=2, padding=1)
        expected = F.silu(F.group_norm(expected, 4))
    assert condition.out_channels == 16
    torch.testing.assert_close(condition(source), expected)
    assert condition(source).shape == (2, 16, 4, 6)


def test_an_encoder_tells_pixels_apart_that_the_mean_does_not() -> None:
    """A deficit in one pixel and a little less in all of them are the same to a mean."""
    point, plain = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 1 / 16)
    point[:, :, 1::4, 2::4] = 1
    for config, differs in ((None, False), (SPACE, True), (ENCODER, True)):
        condition = build(config)
        assert torch.allclose(condition(point), condition(plain)) != differs


def test_an_encoder_is_saved_and_loaded_by_diffusers_own_ways(source: torch.Tensor, tmp_path: Path) -> None:
    condition = build(ENCODER)
    condition.save_pretrained(tmp_path)
    again = ConditionEncoder.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert torch.equal(again(source), condition(source))
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize("config", [None, SPACE, ENCODER])
def test_what_a_record_says_builds_it_again(config: dict[str, Any] | None) -> None:
    condition = build(config)
    said = describe_condition(condition)
    assert said == ({} if config is None else {"condition": config})
    assert describe_condition(build(said.get("condition"))) == said


@pytest.mark.parametrize(
    ("config", "factor", "message"),
    [
        ({"_class_name": "Maximum"}, 4, r"condition\._class_name is Maximum; expected one of"),
        ({**SPACE, "factor": 4}, 4, r"condition\.factor follows from the data \(4\)"),
        ({**MEAN, "kernel": 3}, 4, r"condition\.kernel is not an argument of SourceMean"),
        ({**ENCODER, "in_channels": 3}, 4, r"condition\.in_channels follows from the data \(3\)"),
        ({**ENCODER, "block_out_channel": 3}, 4, "did you mean block_out_channels"),
        (
            ENCODER,
            8,
            r"condition\.block_out_channels is \[8, 16\], .* 4 times smaller; expected length 3.* 8 times",
        ),
        (
            ENCODER,
            2,
            r"condition\.block_out_channels is \[8, 16\], .* 4 times smaller; expected length 1.* 2 times",
        ),
        (ENCODER, 1, "expected SourceMean or SpaceToDepth instead"),
        (ENCODER, 6, "expected SourceMean or SpaceToDepth instead"),
        ({**ENCODER, "block_out_channels": [8, 18]}, 4, r"\[8, 18\]; expected a multiple of norm_num_groups \(4\)"),
        ({**ENCODER, "block_out_channels": []}, 1, r"block_out_channels is \[\]; expected"),
    ],
)
def test_wrong_configs_are_refused(config: dict[str, Any], factor: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(config, factor)
