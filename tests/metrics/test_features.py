"""The Fréchet distance against closed forms, MONAI and torchmetrics."""

import math
import warnings

import numpy as np
import pytest
import torch
from monai.metrics.fid import get_fid_score
from torchmetrics.image.fid import _compute_fid

from ctp_ldm.metrics import frechet_distance


def features(n: int, seed: int, shift: float = 0.0, size: int = 6) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, size)) @ np.random.default_rng(9).normal(size=(size, size)) + shift


def test_it_is_that_of_monai_and_torchmetrics() -> None:
    a, b = features(80, 0), 1.5 * features(60, 1, 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI calls scipy's sqrtm with an argument on its way out
        monai = get_fid_score(torch.from_numpy(a), torch.from_numpy(b))
    moments = [torch.from_numpy(m) for x in (a, b) for m in (x.mean(0), np.cov(x, rowvar=False))]
    assert frechet_distance(a, b) == pytest.approx(float(monai), rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(float(_compute_fid(*moments)), rel=1e-6)


def test_one_feature_by_hand() -> None:
    """(μ_a − μ_b)² + (σ_a − σ_b)²"""
    a, b = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0], [9.0]])
    expected = (1 - 5) ** 2 + (math.sqrt(2) - 4) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_a_shift_of_all_features_is_its_length_squared() -> None:
    a = features(50, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2.0) == pytest.approx(6 * 4)


def test_it_is_symmetric_and_knows_dead_features() -> None:
    a, b = features(50, 0), features(50, 1, 0.5)
    a[:, 2] = b[:, 2] = 0
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, b) > 0


def test_fewer_images_than_features_have_no_distance() -> None:
    assert math.isnan(frechet_distance(features(6, 0), features(50, 1)))
    assert math.isnan(frechet_distance(features(50, 0), features(6, 1)))
    assert not math.isnan(frechet_distance(features(7, 0), features(50, 1)))
