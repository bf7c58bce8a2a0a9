"""Outlines of masks as SVG paths: sharp at any size, and a few kB for a whole patient."""

import numpy as np
from skimage.measure import find_contours

from ctp_ldm.report.levels import Frame


def outlines(mask: np.ndarray, frame: Frame) -> dict[str, list[str]]:
    """Plane → for each of its slices of a (Z, H, W) mask the path around it, in half pixels; "" where there is none."""
    return {plane: [_outline(picture) for picture in pictures] for plane, pictures in frame.views(mask).items()}


def _outline(picture: np.ndarray) -> str:
    if not picture.any():
        return ""
    # Half-way between pixel centres all coordinates are multiples of a half; the frame closes outlines at its edge.
    parts = []
    for contour in find_contours(np.pad(picture, 1).astype(float), 0.5):
        corners = _without_straights(np.rint(2 * (contour[:-1] - 1) + 1).astype(int))
        steps = np.diff(corners, axis=0)
        moves = "".join(f"l{x} {y}" for y, x in steps)
        parts.append(f"M{corners[0, 1]} {corners[0, 0]}{moves}z")
    return "".join(parts)


def _without_straights(points: np.ndarray) -> np.ndarray:
    """Corners of a closed line."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = (before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) != 0
    return points[turns] if turns.sum() > 2 else points
