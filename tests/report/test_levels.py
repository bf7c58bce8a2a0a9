"""Slices as levels: which way up, in which plane, which grey, which outline."""

import base64
import re
import zlib

import numpy as np
import pytest

from ctp_ldm.display.windows import PRESETS, Tone, tone
from ctp_ldm.report.contours import outlines
from ctp_ldm.report.levels import ERROR_LEVELS, FEWEST, Frame, error, frame_of, grey, packed

WHOLE = Frame((0, 5), (0, 4), (0, 6))
TONE = Tone(0, 255, dict.fromkeys(PRESETS, (0, 255)), 100)


def test_the_nose_is_up_and_the_patients_right_on_the_left() -> None:
    volume = np.zeros((1, 4, 6))
    volume[0, 3, 5] = 1  # H runs to the patient's right, W to the front
    picture = Frame((0, 1), (0, 4), (0, 6)).cut(volume)[0]
    assert picture.shape == (6, 4)
    assert picture[0, 0] == 1


def test_planes_stand_on_the_feet_and_look_to_the_left() -> None:
    volume = np.zeros((5, 4, 6))
    volume[4, 3, 5] = 1  # top slice, the patient's right, front
    volume[0, 0, 0] = 2  # bottom slice, left, back
    views = WHOLE.views(volume)
    assert {plane: view.shape for plane, view in views.items()} == {
        "axial": (5, 6, 4),
        "coronal": (6, 5, 4),
        "sagittal": (4, 5, 6),
    }
    assert views["coronal"][0][0, 0] == 1
    assert views["coronal"][5][4, 3] == 2
    assert views["sagittal"][0][0, 0] == 1
    assert views["sagittal"][3][4, 5] == 2


def test_of_few_slices_there_is_no_standing_view() -> None:
    assert list(Frame((3, 3 + FEWEST - 1), (0, 4), (0, 6)).views(np.zeros((9, 4, 6)))) == ["axial"]


def test_what_is_packed_is_the_levels_as_they_are_drawn() -> None:
    levels = np.arange(120, dtype=np.uint8).reshape(5, 6, 4)[:, ::-1]
    assert zlib.decompress(base64.b64decode(packed(levels))) == levels.tobytes()


def test_the_frame_is_the_brain_with_a_margin() -> None:
    brain = np.zeros((9, 40, 50), bool)
    brain[3:6, 10:20, 0:30] = True
    frame = frame_of(brain)
    assert (frame.slices, frame.rows, frame.columns) == ((3, 6), (8, 22), (0, 32))
    assert frame.size == (14, 32)
    assert frame_of(np.zeros((2, 3, 4), bool)).cut(np.zeros((2, 3, 4))).shape == (2, 4, 3)


def test_outside_the_brain_it_is_black_even_where_zero_is_grey() -> None:
    shades = Tone(-100, 100, dict.fromkeys(PRESETS, (-100, 100)), 10)
    brain = np.zeros((5, 4, 6), bool)
    brain[0, 3, 5] = True
    levels = grey(np.zeros((5, 4, 6)), brain, shades, WHOLE)
    assert levels[0, 0, 0] == 128
    assert np.count_nonzero(levels) == 1


def test_inside_the_brain_no_level_is_that_of_outside() -> None:
    levels = grey(np.full((5, 4, 6), -100.0), np.ones((5, 4, 6), bool), TONE, WHOLE)
    assert (levels == 1).all()


def test_errors_have_levels_on_both_sides_of_none() -> None:
    difference = np.zeros((5, 4, 6))
    difference[0, 3, 5], difference[0, 2, 5], difference[0, 1, 5] = -100, 500, 100 / ERROR_LEVELS / 3
    brain = np.zeros((5, 4, 6), bool)
    brain[0, :, 5] = True
    levels = error(difference, brain, 100, WHOLE)
    assert levels[0, 0, :4].tolist() == [1, 255, 128, 128]
    assert levels[0, 1, 0] == 0


def test_values_that_are_no_number_are_drawn_as_zero() -> None:
    assert TONE.levels(np.array([np.nan, -5, 300, 7.4])).tolist() == [0, 0, 255, 7]


@pytest.mark.parametrize("inside", [np.zeros(0), np.full(10, 3.0), np.array([np.nan, np.inf])])
def test_windows_of_nothing_and_of_a_constant_have_a_width(inside: np.ndarray) -> None:
    shades = tone("a.u.", None, inside)
    assert all(low < high for low, high in shades.windows.values())
    assert shades.low < shades.high
    assert shades.error > 0


def corners(path: str) -> list[tuple[int, int]]:
    """Points of a path with one outline, absolute."""
    (x, y), *steps = [(int(a), int(b)) for a, b in re.findall(r"(-?\d+) (-?\d+)", path)]
    points = [(x, y)]
    for dx, dy in steps:
        points.append((points[-1][0] + dx, points[-1][1] + dy))
    return points


def test_outlines_go_around_the_mask_in_half_pixels() -> None:
    mask = np.zeros((5, 4, 6), bool)
    mask[1, 1:3, 2:4] = True
    first, second, *_ = outlines(mask, WHOLE)["axial"]
    assert first == ""
    assert second.startswith("M")
    assert second.endswith("z")
    # Drawn from 1 to 3 across and from 2 to 4 down; corners are cut by half a pixel.
    assert set(corners(second)) == {(2, 5), (2, 7), (3, 8), (5, 8), (6, 7), (6, 5), (5, 4), (3, 4)}


def test_outlines_at_the_edge_are_closed_and_parts_are_separate() -> None:
    mask = np.zeros((5, 4, 6), bool)
    mask[0] = True
    mask[1, 0, 0] = mask[1, 3, 5] = True
    whole, two, *_ = outlines(mask, WHOLE)["axial"]
    assert {(0, 1), (8, 1), (7, 12)} <= set(corners(whole))
    assert two.count("M") == two.count("z") == 2
