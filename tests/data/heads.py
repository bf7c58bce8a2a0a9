"""A head made of ellipsoids on a CT table, whose brain is known."""

from typing import NamedTuple

import numpy as np

AIR, SCALP, SKULL, WHITE, GREY, VENTRICLE, TABLE = -1000.0, 40.0, 900.0, 27.0, 38.0, 8.0, 200.0
BRAIN_MM = np.array([68.0, 85.0, 62.0])
SKULL_MM, SCALP_MM, GREY_MM, TABLE_MM = 7.0, 6.0, 12.0, 15.0


class Head(NamedTuple):
    """hu, brain: (X, Y, Z), HU and the truth; spacing: (3,) mm."""

    hu: np.ndarray
    brain: np.ndarray
    spacing: np.ndarray


def head(spacing: tuple[float, float, float], slab_mm: float = 110.0, scale: float = 1.0, noise: float = 3.0) -> Head:
    """A slab around the middle of the brain; voxels average 2 × 2 points in-plane, so edges have partial volume."""
    sizes = np.array(spacing)
    shape = np.ceil(np.array([200.0, 240.0, slab_mm]) / sizes).astype(int)
    hu, inside = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for dx in (-0.25, 0.25):
        for dy in (-0.25, 0.25):
            offsets = (dx, dy, 0.0)
            axes = [(np.arange(n) - (n - 1) / 2 + o) * s for n, o, s in zip(shape, offsets, sizes, strict=True)]
            values, brain = _materials(_mesh(axes), scale)
            hu += values / 4
            inside += brain / 4
    hu += np.random.default_rng(0).normal(0, noise, shape).astype(np.float32)
    return Head(hu, inside > 0.5, sizes)


def _mesh(axes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = (a.astype(np.float32) for a in axes)
    return x[:, None, None], y[None, :, None], z[None, None, :]


def _materials(points: tuple[np.ndarray, np.ndarray, np.ndarray], scale: float) -> tuple[np.ndarray, np.ndarray]:
    x, y, z = points

    def within(radii: np.ndarray, centre_x: float = 0.0) -> np.ndarray:
        a, b, c = radii
        return ((x - centre_x) / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 < 1

    brain_mm = BRAIN_MM * scale
    outer = brain_mm + SKULL_MM + SCALP_MM
    brain = within(brain_mm)
    top = -outer[1] - 4.0  # the table's surface, 4 mm below the back of the head
    hu = np.full(brain.shape, AIR, np.float32)
    hu[np.broadcast_to((y < top) & (y > top - TABLE_MM), brain.shape)] = TABLE
    for radii, value in (
        (outer, SCALP),
        (brain_mm + SKULL_MM, SKULL),
        (brain_mm, GREY),
        (brain_mm - GREY_MM * scale, WHITE),
    ):
        hu[within(radii)] = value
    for side in (-1, 1):
        hu[within(np.array([8.0, 28.0, 14.0]) * scale, side * 12.0 * scale)] = VENTRICLE
    return hu, brain
