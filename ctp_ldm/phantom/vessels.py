"""Centrelines of the large intracranial vessels in MNI152 space.

Each polyline is drawn on the right side (x > 0, RAS+ mm) along the vessel's textbook course past the MNI landmarks it
lies against, and mirrored to the left. Besides being visible, the arteries define the territories: tissue belongs to
the artery it is nearest to.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Territory = Literal["ACA", "MCA", "PCA", "cerebellar"]
TERRITORIES: tuple[Territory, ...] = ("ACA", "MCA", "PCA", "cerebellar")


class Vessel(NamedTuple):
    """One polyline: radius in mm (0: too thin to be seen, feeds its territory only) and points in mm."""

    radius: float
    points: list[tuple[float, float, float]]


ARTERIES: dict[Territory, list[Vessel]] = {
    "ACA": [
        # A1 to A2, around the genu, then the pericallosal artery
        Vessel(1.2, [(12, 4, -20), (4, 12, -16), (2, 24, -8), (3, 38, 2), (3, 42, 16)]),
        Vessel(1.0, [(3, 42, 16), (3, 34, 28), (3, 18, 36), (3, 0, 42), (3, -22, 46), (3, -44, 46)]),
        # callosomarginal artery
        Vessel(0.9, [(3, 42, 16), (4, 52, 24), (4, 40, 46), (4, 16, 62), (4, -10, 66), (4, -34, 66)]),
        # cortical branches over the medial edge of the hemisphere
        Vessel(0.0, [(4, 40, 46), (14, 38, 50)]),
        Vessel(0.0, [(4, -10, 66), (16, -10, 70)]),
    ],
    "MCA": [
        Vessel(2.0, [(12, 6, -34), (12, 4, -20)]),  # end of the internal carotid
        Vessel(1.5, [(12, 4, -20), (20, 6, -19), (30, 6, -17), (38, 4, -14)]),  # M1
        # superior division
        Vessel(1.2, [(38, 4, -14), (42, 10, -4), (44, 14, 8), (50, 12, 16)]),
        Vessel(0.9, [(50, 12, 16), (56, 4, 26), (56, -8, 38), (50, -16, 48)]),
        Vessel(0.9, [(42, 10, -4), (46, 28, 4), (46, 36, 16), (42, 34, 28)]),
        # inferior division
        Vessel(1.2, [(38, 4, -14), (42, -8, -6), (42, -22, 4), (50, -36, 12)]),
        Vessel(0.9, [(50, -36, 12), (56, -48, 18), (50, -60, 28), (44, -66, 38)]),
        Vessel(0.8, [(38, 4, -14), (48, 0, -18), (58, -14, -10), (62, -34, -4)]),
        # lenticulostriate arteries: basal ganglia, corona radiata
        Vessel(0.0, [(26, 6, -17), (26, 4, 4), (24, 0, 14), (26, -8, 26)]),
    ],
    "PCA": [
        Vessel(1.8, [(0, -30, -42), (0, -24, -30), (0, -18, -16)]),  # basilar
        Vessel(1.2, [(0, -18, -16), (10, -18, -14), (17, -26, -10), (20, -38, -4)]),
        Vessel(0.9, [(20, -38, -4), (16, -54, 0), (12, -68, 4), (10, -84, 6), (12, -96, 4)]),
        Vessel(0.8, [(16, -54, 0), (14, -64, 16), (12, -76, 28)]),
        Vessel(0.0, [(20, -38, -4), (34, -46, -14), (42, -58, -14)]),
        Vessel(0.0, [(10, -18, -14), (10, -16, 6)]),  # thalamic perforators
    ],
    "cerebellar": [
        Vessel(0.0, [(6, -26, -24), (18, -44, -24), (24, -62, -26), (24, -76, -30)]),
        Vessel(0.0, [(4, -46, -20), (4, -62, -20), (6, -76, -24)]),
        Vessel(0.0, [(10, -40, -48), (24, -62, -50)]),
    ],
}

# The superior sagittal sinus follows the inside of the skull: anatomy.py adds it.
VEINS: list[Vessel] = [
    Vessel(1.2, [(2, 4, 14), (2, -16, 16), (2, -34, 10)]),  # internal cerebral vein
    Vessel(2.2, [(0, -36, 8), (0, -48, 10), (0, -70, 4), (0, -94, -6)]),  # vein of Galen, straight sinus
]


def mirrored(vessels: Iterable[Vessel]) -> list[Vessel]:
    """The vessels of both sides."""
    right = list(vessels)
    return right + [Vessel(v.radius, [(-x, y, z) for x, y, z in v.points]) for v in right]


def centreline(vessel: Vessel, step_mm: float = 0.5) -> NDArray[np.float64]:
    """Points (N, 3) in mm along a polyline, at most `step_mm` apart."""
    corners = np.array(vessel.points, dtype=np.float64)
    pieces = []
    for start, end in pairwise(corners):
        count = int(np.ceil(np.linalg.norm(end - start) / step_mm)) + 1
        pieces.append(np.linspace(start, end, count))
    return np.concatenate(pieces)
