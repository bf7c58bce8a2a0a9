"""Means over masks that may be empty."""

import pytest
import torch

from ctp_ldm.losses import masked_mean
from losses.heads import gradient


def test_the_mean_runs_over_masked_pixels_and_all_channels_of_the_whole_batch() -> None:
    values = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]], [[[5.0, 6.0]], [[7.0, 8.0]]]])  # 2 × 2 × 1 × 2
    mask = torch.tensor([[[[1.0, 0.0]]], [[[1.0, 1.0]]]])
    assert masked_mean(values, mask).item() == pytest.approx((1 + 3 + 5 + 6 + 7 + 8) / 6)


def test_an_empty_mask_gives_zero_with_zero_gradients() -> None:
    values = torch.randn(2, 2, 3, 4, requires_grad=True)
    result = masked_mean(values, torch.zeros(2, 1, 3, 4))
    result.backward()
    assert result.item() == 0
    assert torch.equal(gradient(values), torch.zeros_like(values))


def test_a_single_pixel_is_not_diluted() -> None:
    mask = torch.zeros(1, 1, 2, 2)
    mask[..., 0, 0] = 1
    assert masked_mean(torch.full((1, 1, 2, 2), 7.0), mask).item() == 7


def test_sums_are_float32_whatever_comes_in() -> None:
    values = torch.full((1, 1, 512, 512), 1.0, dtype=torch.float16)  # their sum overflows float16
    result = masked_mean(values, torch.ones(1, 1, 512, 512, dtype=torch.bool))
    assert result.dtype == torch.float32
    assert result.item() == 1


def test_volumes_are_averaged_in_the_same_way() -> None:
    values = torch.arange(8.0).view(1, 1, 2, 2, 2)
    assert masked_mean(values, (values > 5).float()).item() == 6.5
