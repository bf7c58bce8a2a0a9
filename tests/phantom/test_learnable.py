"""Learners on made-up maps, where what can be learned is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter

from ctp_ldm.phantom.learnable import FALSE_FOCI, VoxelMaps, features, learnable, visible_lacunes
from ctp_ldm.phantom.learnable import _cut_of_foci as cut_of_foci

SHAPE, SPACING = (30, 36, 6), (4.0, 4.0, 5.0)
BRAIN = np.zeros(SHAPE, np.float32)
BRAIN[2:-2, 3:-3] = 1
LEFT = np.indices(SHAPE)[0] < SHAPE[0] // 2


def _patient(rng: np.random.Generator, radius: float, contrast: float) -> VoxelMaps:
    """A ball on the left, of whose place a noisy map tells by `contrast` standard deviations of its noise."""
    centre = np.array([rng.uniform(6, 12), rng.uniform(8, 28), rng.uniform(1, 4)])
    places = np.indices(SHAPE).reshape(3, -1).T - centre
    ball = (np.linalg.norm(places * SPACING, axis=1) < radius).reshape(SHAPE).astype(np.float32)
    told = 10 + rng.normal(size=SHAPE) - contrast * ball
    maps = {"CT": {"map": told.astype(np.float16)}, "truth": {"map": (10 - 5 * ball).astype(np.float16)}}
    return VoxelMaps(SPACING, BRAIN, ball * BRAIN, LEFT, maps)


def _patients(count: int, radius: Callable[[np.random.Generator], float], contrast: float) -> list[VoxelMaps]:
    rng = np.random.default_rng(count)
    return [_patient(rng, radius(rng), contrast) for _ in range(count)]


def test_what_is_told_plainly_is_learned_and_what_is_not_told_is_not() -> None:
    told, untold = (_patients(24, lambda rng: rng.uniform(14, 26), contrast) for contrast in (3.0, 0.0))
    dice, difference = learnable(told, "CT")
    assert dice > 0.8
    assert difference < 0.25 * np.mean([p.infarct.sum() * p.voxel_ml for p in told])
    assert learnable(told, "truth")[0] > 0.95
    assert learnable(untold, "CT")[0] < 0.2
    assert learnable(told, "CT") == learnable(told, "CT")


def test_without_any_infarct_nothing_can_be_learned() -> None:
    assert np.isnan(learnable(_patients(12, lambda rng: 0.0, 1.0), "CT")).all()


def test_foci_are_seen_as_far_as_they_stand_out() -> None:
    healthy = _patients(12, lambda rng: 0.0, 0.0)
    plain, hidden = (visible_lacunes(_patients(24, lambda rng: 8.0, contrast), healthy) for contrast in (8.0, 0.0))
    assert plain > 0.9
    assert abs(hidden) < 0.25


def test_the_cut_off_leaves_few_false_foci() -> None:
    rng = np.random.default_rng(0)
    images = [gaussian_filter(rng.random(SHAPE).astype(np.float32), 1) for _ in range(20)]
    cut = cut_of_foci(images)
    assert sum((image > cut).any() for image in images) <= FALSE_FOCI * len(images)
    lower = cut - 0.01 * max(float(image.max()) for image in images)
    assert any((image > lower).any() for image in images)


def test_features_are_of_the_voxels_inside_and_free_of_a_common_factor() -> None:
    patient = _patients(1, lambda rng: 16.0, 3.0)[0]
    scaled = replace(patient, maps={"CT": {"map": 2 * patient.maps["CT"]["map"]}, "truth": {}})
    first, second = features(patient, "CT"), features(scaled, "CT")
    assert first.shape[0] == patient.inside.sum()
    np.testing.assert_allclose(first, second, rtol=1e-2)
