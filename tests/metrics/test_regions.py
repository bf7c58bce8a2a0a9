"""Rim, mirror image and components on volumes that can be checked by eye."""

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from ctp_ldm.metrics.regions import components, mirrored, rim


def empty(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=bool)


def test_the_rim_knows_the_voxel_size() -> None:
    mask = empty(7, 31, 31)
    mask[3, 15, 15] = True
    around = rim(mask, spacing=(4.0, 1.0, 2.0))
    assert not around[3, 15, 15]
    assert around[3, 5, 15]  # 10 mm
    assert not around[3, 4, 15]  # 11 mm
    assert around[3, 15, 10]  # 10 mm
    assert not around[3, 15, 9]  # 12 mm
    assert around[5, 15, 15]  # 8 mm
    assert around[5, 15, 12]  # √(8² + 6²) = 10 mm
    assert not around[6, 15, 15]  # 12 mm


def test_the_rim_is_what_brute_force_finds() -> None:
    generator = np.random.default_rng(0)
    mask = generator.random((5, 12, 14)) > 0.99
    spacing = (5.0, 2.0, 3.0)
    every = np.argwhere(np.ones_like(mask)) * spacing
    distances = np.linalg.norm(every[:, None] - (np.argwhere(mask) * spacing)[None], axis=2).min(1).reshape(mask.shape)
    assert np.array_equal(rim(mask, spacing), (distances > 0) & (distances <= 10))


def test_an_empty_mask_has_no_rim() -> None:
    assert not rim(empty(3, 4, 5), (1.0, 1.0, 1.0)).any()


@pytest.mark.parametrize(
    ("first", "last", "at", "expected"), [(2, 9, 3, 8), (2, 10, 3, 9), (2, 10, 6, 6), (0, 7, 0, 7)]
)
def test_a_mask_is_mirrored_at_the_middle_of_the_brain(first: int, last: int, at: int, expected: int) -> None:
    """Brains of even and odd width; Z and W stay."""
    brain, mask = empty(3, 12, 5), empty(3, 12, 5)
    brain[:, first : last + 1] = True
    mask[1, at, 2] = True
    assert np.argwhere(mirrored(mask, brain)).tolist() == [[1, expected, 2]]


def test_mirroring_twice_is_nothing_where_the_brain_is_in_the_middle() -> None:
    brain = np.ones((2, 9, 4), dtype=bool)
    mask = np.random.default_rng(0).random(brain.shape) > 0.7
    assert np.array_equal(mirrored(mirrored(mask, brain), brain), mask)
    assert np.array_equal(mirrored(mask, brain), mask[:, ::-1])


def test_what_falls_off_the_grid_is_gone() -> None:
    brain, mask = empty(1, 10, 1), empty(1, 10, 1)
    brain[0, 5:10] = True
    mask[0, 0] = True
    assert not mirrored(mask, brain).any()


def test_a_stray_voxel_hardly_moves_the_plane() -> None:
    brain, mask = empty(1, 40, 30), empty(1, 40, 30)
    brain[0, 5:25] = True
    mask[0, 7, 3] = True
    before = mirrored(mask, brain)
    brain[0, 39, 0] = True
    assert center_of_mass(brain)[1] == pytest.approx(14.5, abs=0.05)
    assert np.array_equal(mirrored(mask, brain), before)


def test_voxels_that_touch_at_a_corner_are_one_component() -> None:
    mask = empty(3, 3, 5)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    mask[0, 0, 4] = True
    labels, count = components(mask)
    assert count == 2
    assert labels[0, 0, 0] == labels[2, 2, 2] != labels[0, 0, 4]
    assert components(empty(2, 2, 2))[1] == 0
