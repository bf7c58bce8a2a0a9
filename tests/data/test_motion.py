"""Known movements of a head are found; contrast and the table are none."""

import numpy as np
import pytest
from scipy import ndimage

from ctp_ldm.data.motion import frame_shifts

from .heads import AIR, BRAIN_MM, SCALP_MM, SKULL_MM, Head, head

MOVES_MM = np.array([[0, 0, 0], [3, 0, 0], [0, 5, 0], [0, 0, 4], [1.5, -2.5, 0], [-6, 8, -3], [0.5, 0.5, 0.5]])
# A tenth of a voxel of 4 or 5 mm, and as much again for the interpolation that moves the head here.
TOLERANCE_MM = 0.75
every_spacing = pytest.mark.parametrize(
    "spacing", [(0.5, 0.5, 5.0), (1.0, 1.0, 5.0), (1.5, 2.5, 5.0), (2.0, 2.0, 5.0), (4.0, 4.0, 8.0)], ids=str
)


def _head(spacing: tuple[float, float, float]) -> Head:
    return head(spacing, slab_mm=60.0 if spacing[0] < 1 else 110.0, noise=0.0)


def _noisy(frames: list[np.ndarray]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([frame + rng.normal(0, 5, frame.shape) for frame in frames], axis=-1).astype(np.float32)


@every_spacing
@pytest.mark.parametrize("table_moves", [True, False])
def test_known_movements_are_found(spacing: tuple[float, float, float], table_moves: bool) -> None:
    hu, brain, sizes = _head(spacing)
    y = (np.arange(hu.shape[1]) - (hu.shape[1] - 1) / 2) * sizes[1]
    table = np.zeros(hu.shape, bool)
    if not table_moves:
        table[:, y < -(BRAIN_MM[1] + SKULL_MM + SCALP_MM) - 3] = True
    patient = np.where(table, np.float32(AIR), hu)
    frames = [np.where(table, hu, ndimage.shift(patient, m / sizes, order=1, mode="nearest")) for m in MOVES_MM]
    found = frame_shifts(_noisy(frames), brain, sizes)
    assert found.shape == MOVES_MM.shape
    np.testing.assert_allclose(found, MOVES_MM, atol=TOLERANCE_MM)


@every_spacing
def test_a_still_head_with_contrast_in_it_does_not_move(spacing: tuple[float, float, float]) -> None:
    hu, brain, sizes = _head(spacing)
    x, y, _ = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(hu.shape, sizes, strict=True)], indexing="ij"
    )
    artery = brain & (np.hypot(x - 35, y - 10) < 3)  # on one side, as where the other is occluded
    assert artery.any()
    frames = [hu + np.float32(bolus) * (5 * brain + 200 * artery) for bolus in (0, 0.2, 0.7, 1, 0.6, 0.3)]
    assert np.abs(frame_shifts(_noisy(frames), brain, sizes)).max() <= 0.4


def test_a_stripped_brain_that_moves_whole_voxels_is_found() -> None:
    hu, brain, sizes = _head((2.0, 2.0, 5.0))
    stripped = np.where(brain, hu, np.float32(0))
    voxels = [(0, 0, 0), (2, 0, 0), (0, -3, 0), (1, 1, 1)]
    frames = np.stack([np.roll(stripped, v, axis=(0, 1, 2)) for v in voxels], axis=-1)
    np.testing.assert_allclose(frame_shifts(frames, brain, sizes), voxels * sizes, atol=TOLERANCE_MM)


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_of_a_few_slices_only_movement_within_them_is_told(slices: int) -> None:
    """What flows into two slices looks like a movement between them."""
    hu, brain, sizes = _head((2.0, 2.0, 8.0))
    few = hu[:, :, 4 : 4 + slices]
    moves = [(0.0, 0.0), (4.0, 0.0), (0.0, -6.0)]
    frames = [ndimage.shift(few, (x / 2, y / 2, 0), order=1, mode="nearest") for x, y in moves]
    frames[1][:, :, -1:] += 60.0 * brain[:, :, 4:5]
    found = frame_shifts(_noisy(frames), brain[:, :, 4 : 4 + slices], sizes)
    assert not found[:, 2].any()
    np.testing.assert_allclose(found[:, :2], moves, atol=TOLERANCE_MM)
