"""Slices as pictures: which way up, where each lies, which grey, which outline."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from ctp_ldm.display.windows import ENHANCEMENT, PRESETS, TOO_HIGH, TOO_LOW, WINDOWS, ZERO, Tone, tone
from ctp_ldm.report.contours import outlines
from ctp_ldm.report.sprites import ERROR_LEVELS, Frame, error, frame_of, grey

WHOLE = Frame((0, 5), (0, 4), (0, 6))
TONE = Tone(0, 255, dict.fromkeys(PRESETS, (0, 255)), 100)


def read(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_the_nose_is_up_and_the_patients_right_on_the_left() -> None:
    volume = np.zeros((1, 4, 6))
    volume[0, 3, 5] = 1  # H runs to the patient's right, W to the front
    picture = Frame((0, 1), (0, 4), (0, 6)).cut(volume)[0]
    assert picture.shape == (6, 4)
    assert picture[0, 0] == 1


def test_slices_lie_in_lines_near_a_square() -> None:
    assert (WHOLE.across, WHOLE.down) == (3, 2)
    volume = np.broadcast_to(10.0 * np.arange(1, 6)[:, None, None], (5, 4, 6))
    picture = read(grey(volume, np.ones(volume.shape, bool), TONE, WHOLE))[..., 0]
    assert picture.shape == (12, 12)
    assert [picture[3 + 6 * (i // 3), 2 + 4 * (i % 3)] for i in range(6)] == [10, 20, 30, 40, 50, 0]


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
    picture = read(grey(np.zeros((5, 4, 6)), brain, shades, WHOLE))[..., 0]
    assert picture[0, 0] == 128
    assert np.count_nonzero(picture) == 1


def test_errors_are_blue_too_low_and_red_too_high() -> None:
    difference = np.zeros((5, 4, 6))
    difference[0, 3, 5], difference[0, 2, 5], difference[0, 1, 5] = -100, 500, 100 / ERROR_LEVELS / 3
    brain = np.zeros((5, 4, 6), bool)
    brain[0, :, 5] = True
    picture = read(error(difference, brain, 100, WHOLE))
    assert [tuple(pixel) for pixel in picture[0, :4]] == [TOO_LOW, TOO_HIGH, ZERO, ZERO]
    assert tuple(picture[1, 0]) == (0, 0, 0)


def test_values_that_are_no_number_are_drawn_as_zero() -> None:
    assert TONE.levels(np.array([np.nan, -5, 300, 7.4])).tolist() == [0, 0, 255, 7]


@pytest.mark.parametrize("shades", [*WINDOWS.values(), ENHANCEMENT, tone("", None, np.linspace(-50, 300, 1000))])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_filter_makes_the_window(shades: Tone, preset: str) -> None:
    """brightness and contrast as the CSS specification defines them."""
    brightness, contrast = map(float, re.findall(r"\(([\d.]+)\)", shades.css(preset)))
    low, high = shades.windows[preset]
    for amount in np.linspace(shades.low, shades.high, 20):
        stored = (amount - shades.low) / (shades.high - shades.low)
        shown = np.clip((min(brightness * stored, 1) - 0.5) * contrast + 0.5, 0, 1)
        assert shown == pytest.approx(np.clip((amount - low) / (high - low), 0, 1), abs=1e-3)


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
    first, second, *_ = outlines(mask, WHOLE)
    assert first == ""
    assert second.startswith("M")
    assert second.endswith("z")
    # Drawn from 1 to 3 across and from 2 to 4 down; corners are cut by half a pixel.
    assert set(corners(second)) == {(2, 5), (2, 7), (3, 8), (5, 8), (6, 7), (6, 5), (5, 4), (3, 4)}


def test_outlines_at_the_edge_are_closed_and_parts_are_separate() -> None:
    mask = np.zeros((5, 4, 6), bool)
    mask[0] = True
    mask[1, 0, 0] = mask[1, 3, 5] = True
    whole, two, *_ = outlines(mask, WHOLE)
    assert {(0, 1), (8, 1), (7, 12)} <= set(corners(whole))
    assert two.count("M") == two.count("z") == 2
