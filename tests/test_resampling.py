"""Masked means against brute force and closed forms: no background bleeds in, noise, ramps, volume and width."""

import tracemalloc
from math import prod
from typing import Literal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ctp_ldm.resampling import FWHM_PER_SD, Axis, MaskedMean, at_least_half

BACKGROUNDS = [0.0, -1000.0, -1024.0, -3024.0, -8192.0, 65535.0, np.nan, np.inf]
ratios = st.one_of(st.floats(0.3, 6.0), st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0, 2.5]))


def axis_of(ratio: float, origin: float, length: int) -> Axis:
    """An axis whose output voxels cover the input and more."""
    return Axis(origin - 1.0, ratio, int(np.ceil((length + 3) / ratio)) + 1, length)


@st.composite
def axes(draw: st.DrawFn, longest: int = 9) -> list[Axis]:
    lengths = [draw(st.integers(1, longest)) for _ in range(3)]
    return [axis_of(draw(ratios), draw(st.floats(-1, 1)), length) for length in lengths]


def by_supersampling(axis: Axis, points: int = 4000) -> np.ndarray:
    """(count, length): how many of many points in each output voxel lie in each input voxel."""
    width = max(axis.ratio, 1.0)
    weights = np.zeros((axis.count, axis.length))
    for i in range(axis.count):
        centre = axis.origin + axis.ratio * i
        cells = np.floor(centre + width * ((np.arange(points) + 0.5) / points - 0.5) + 0.5).astype(int)
        for cell in cells[(cells >= 0) & (cells < axis.length)]:
            weights[i, cell] += 1 / points
        if axis.ratio <= 1:
            outside = not -0.5 < centre < axis.length - 0.5
            weights[i] = 0 if outside else weights[i] / weights[i].sum()
    return weights


@pytest.mark.parametrize("ratio", [0.31, 0.5, 1.0, 1.0001, 1.37, 2.0, 2.5, 4.2])
@pytest.mark.parametrize("origin", [-0.5, 0.0, 0.123, 0.77])
def test_weights_are_what_an_output_voxel_covers(ratio: float, origin: float) -> None:
    axis = axis_of(ratio, origin, 7)
    np.testing.assert_allclose(axis.weights().toarray(), by_supersampling(axis), atol=2e-3)


def test_finer_voxels_are_interpolated_linearly_and_take_the_nearest_at_the_rim() -> None:
    values = np.array([3.0, 5.0, 1.0], np.float32)
    where = -0.45 + 0.1 * np.arange(30)
    found = MaskedMean([Axis(0, 1, 1, 1), Axis(0, 1, 1, 1), Axis(-0.45, 0.1, 30, 3)])(values[None, None])
    np.testing.assert_allclose(found[0, 0], np.interp(where, [0, 1, 2], values), rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(axes(), st.integers(0, 2**32 - 1), st.floats(0.05, 1.0))
def test_means_are_those_of_loops_over_voxels(along: list[Axis], seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(axis.length for axis in along)
    values, inside = rng.normal(30, 10, shape), rng.random(shape) < share
    z, x, y = (axis.weights().toarray().astype(np.float64) for axis in along)
    weights = np.einsum("az,bx,cy,zxy->abczxy", z, x, y, inside.astype(float))
    total = weights.sum(axis=(3, 4, 5))
    means = MaskedMean(along, inside)
    np.testing.assert_allclose(means.part, total, atol=1e-5)
    seen = total > 1e-3
    expected = (weights * values).sum(axis=(3, 4, 5))[seen] / total[seen]
    np.testing.assert_allclose(means(values)[seen], expected, rtol=1e-4, atol=1e-3)
    assert (means(values, fill=-7.0)[total == 0] == -7.0).all()
    squares = np.sqrt(np.einsum("az,bx,cy,zxy->abc", z**2, x**2, y**2, inside.astype(float)))
    np.testing.assert_allclose(means.white_noise()[seen], squares[seen] / total[seen], rtol=1e-3)


@settings(max_examples=60, deadline=None)
@given(axes(), st.integers(0, 2**32 - 1), st.sampled_from(BACKGROUNDS))
def test_no_background_bleeds_in_whatever_its_value(along: list[Axis], seed: int, background: float) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(axis.length for axis in along)
    values, inside = rng.uniform(20, 40, shape).astype(np.float32), rng.random(shape) < 0.5
    means = MaskedMean(along, inside)
    found = means(np.where(inside, values, np.float32(background)), fill=30.0)
    np.testing.assert_array_equal(found, means(values, fill=30.0))
    if inside.any():
        seen = found[means.part > 0]
        assert values[inside].min() - 1e-3 <= seen.min()
        assert seen.max() <= values[inside].max() + 1e-3


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_does_not_grow_with_slices_beside_input_and_output(order: Literal["C", "F"]) -> None:
    extra = []
    for slices in (16, 64):
        values = np.zeros((96, 96, slices), np.float32, order=order)
        inside = np.ones(values.shape, bool)
        along = [Axis(1.5, 4.0, slices // 4, slices), Axis(0.5, 2.0, 48, 96), Axis(0.5, 2.0, 48, 96)]
        tracemalloc.start()
        means = MaskedMean(along, np.moveaxis(inside, 2, 0))
        found = means(np.moveaxis(values, 2, 0))
        extra.append(tracemalloc.get_traced_memory()[1] - found.nbytes - means.part.nbytes)
        tracemalloc.stop()
    assert extra[0] < 8 * 4 * 96 * 96 * 4  # a few times the slices of one slab
    assert extra[1] < 1.2 * extra[0] + 2 * 64 * 48 * 48


@settings(max_examples=100, deadline=None)
@given(st.floats(1.0, 8.0), st.floats(-1, 1), st.floats(-5, 5))
def test_a_ramp_is_off_by_an_eighth_of_an_input_voxel_over_the_ratio_at_most(
    ratio: float, origin: float, slope: float
) -> None:
    """A part of an input voxel counts as the whole voxel's mean, whose place is its middle."""
    axis = axis_of(ratio, origin, 40)
    weights = axis.weights().toarray().astype(np.float64)
    centres = axis.origin + axis.ratio * np.arange(axis.count)
    interior = (centres - ratio / 2 > -0.5) & (centres + ratio / 2 < 39.5)
    error = slope * (weights @ np.arange(40.0) - centres)
    assert np.abs(error[interior]).max() <= abs(slope) / (8 * ratio) + 1e-4 * abs(slope)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.integers(1, 8).map(float), st.floats(0.2, 1.0)), st.floats(-1, 1))
def test_a_ramp_is_exact_at_whole_ratios_and_where_it_is_interpolated(ratio: float, origin: float) -> None:
    axis = axis_of(ratio, origin, 40)
    weights = axis.weights().toarray().astype(np.float64)
    centres = axis.origin + axis.ratio * np.arange(axis.count)
    half = max(ratio, 1.0) / 2
    interior = (centres - half > -0.5) & (centres + half < 39.5)
    np.testing.assert_allclose((weights @ np.arange(40.0))[interior], centres[interior], atol=1e-4)


@pytest.mark.parametrize("ratio", [(1.0, 2.2, 2.2), (4.0, 2.0, 2.0), (3.7, 1.3, 2.6), (4.0, 0.7, 0.7)])
def test_white_noise_is_left_with_what_the_closed_form_says(ratio: tuple[float, float, float]) -> None:
    lengths = (24, 60, 60)
    along = [Axis((r - 1) / 2, r, int(n / r), n) for r, n in zip(ratio, lengths, strict=True)]
    means = MaskedMean(along, np.ones(lengths, bool))
    noise = np.random.default_rng(0).standard_normal((40, *lengths), dtype=np.float32)
    measured = np.sqrt(np.mean([np.square(means(frame)) for frame in noise], axis=0))
    expected = means.white_noise()
    assert np.sqrt((measured**2).mean()) == pytest.approx(float(np.sqrt((expected**2).mean())), rel=0.02)
    np.testing.assert_allclose(measured, expected, rtol=0.6)  # each of 40 samples
    if all(r == int(r) for r in ratio):
        np.testing.assert_allclose(expected, 1 / np.sqrt(prod(ratio)), rtol=1e-5)


@pytest.mark.parametrize("ratio", [1.0, 2.0, 4.0])
def test_a_box_is_as_wide_as_its_closed_form(ratio: float) -> None:
    axis = Axis((ratio - 1) / 2, ratio, int(24 / ratio), 24)
    assert axis.variance() == pytest.approx(ratio**2 / 12)
    assert FWHM_PER_SD * np.sqrt(axis.variance()) == pytest.approx(0.6798 * ratio, rel=1e-3)


@pytest.mark.parametrize("ratio", [0.37, 0.81, 1.63, 2.5, 3.9])
def test_the_width_is_that_of_where_points_come_from(ratio: float) -> None:
    """Against the spread of a point's response, each input voxel being a box itself."""
    axis = axis_of(ratio, 0.3, 30)
    weights = axis.weights().toarray()
    points = np.arange(30)[:, None] + (np.arange(200) + 0.5) / 200 - 0.5
    spreads = []
    for row in weights[weights.sum(axis=1) > 1 - 1e-4]:
        density = np.repeat(row, 200) / row.sum()
        middle = np.average(points.ravel(), weights=density)
        spreads.append(np.average((points.ravel() - middle) ** 2, weights=density))
    assert axis.variance() == pytest.approx(np.mean(spreads), rel=1e-3)


# --------------------------------------------------------------------------------------------------------------- masks


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(1.0, 5.0)] * 3), st.integers(0, 2**32 - 1), st.floats(0.02, 0.9))
def test_fractions_keep_every_volume_and_the_cut_errs_by_half_a_voxel_where_it_cuts(
    ratio: tuple[float, float, float], seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    lengths = (8, 9, 10)
    mask = rng.random(lengths) < share
    along = [axis_of(max(r, 1.001), rng.uniform(-1, 1), n) for r, n in zip(ratio, lengths, strict=True)]
    part = MaskedMean(along, mask).part
    output_voxel = prod(axis.ratio for axis in along)
    assert part.sum() * output_voxel == pytest.approx(mask.sum(), rel=1e-4)
    cut = at_least_half(mask, along)
    partial = ((part > 1e-4) & (part < 1 - 1e-4)).sum()
    assert abs(float(cut.sum()) - part.sum()) <= 0.5 * partial * 1.01 + 1e-3 * part.size


@pytest.mark.parametrize("along", range(3))
@pytest.mark.parametrize("ratio", [2.0, 4.0])
def test_faces_that_halve_voxels_neither_grow_nor_shrink_a_mask(along: int, ratio: float) -> None:
    """At a ratio of 2 every second face cuts its voxels exactly in half."""
    grid = [Axis((ratio - 1) / 2, ratio, int(40 / ratio), 40) if a == along else Axis(0, 1, 3, 3) for a in range(3)]
    errors = []
    for low in range(4, 8):
        for width in range(5, 21):
            mask = np.zeros([axis.length for axis in grid], bool)
            np.moveaxis(mask, along, 0)[low : low + width] = True
            errors.append(at_least_half(mask, grid).sum() * ratio - mask.sum())
    assert np.mean(errors) == pytest.approx(0, abs=1e-6)
    assert np.abs(errors).max() < 9 * ratio  # less than half of a voxel at each of two faces of 9


@pytest.mark.parametrize("ratio", [(4.0, 2.2, 2.2), (4.0, 2.0, 2.0), (3.5, 4.0, 4.0), (2.0, 1.0, 1.0)])
@pytest.mark.parametrize("radius", [2.0, 4.0, 6.0])
def test_smooth_lesions_keep_their_volume_but_for_what_their_curvature_costs(
    ratio: tuple[float, float, float], radius: float
) -> None:
    """Ellipsoids of 2 to 6 output voxels' radius, anywhere.

    A mean over voxels of variance 1/12 moves the contour of one half inwards by 1/12 of the curvature, which is 1/4 of
    the inverse square of the radius of the volume: 6 % at a radius of 2 voxels, 0.7 % at 6.
    """
    rng = np.random.default_rng(1)
    lengths = tuple(int((2 * radius + 6) * r) for r in ratio)
    errors = []
    for _ in range(30):
        centre = [n / 2 + rng.uniform(-2, 2) for n in lengths]
        scales = zip(np.ogrid[tuple(slice(n) for n in lengths)], centre, ratio, strict=True)
        mask = sum(((a - c) / (radius * r)) ** 2 for a, c, r in scales) < 1
        along = [Axis(rng.uniform(-0.5, 0.5), r, int(2 * radius + 8), n) for r, n in zip(ratio, lengths, strict=True)]
        errors.append(float(at_least_half(np.asarray(mask), along).sum() * prod(ratio) / mask.sum() - 1))
    assert np.mean(errors) == pytest.approx(-1 / (4 * radius**2), abs=0.01 + 0.1 / radius**2)


# ------------------------------------------------------------------------------------------------------------ way back


@settings(max_examples=60, deadline=None)
@given(st.floats(1.0, 6.0), st.floats(-0.5, 0.5), st.integers(12, 40))
def test_the_way_back_is_linear_between_middles_and_nearest_beyond(ratio: float, origin: float, length: int) -> None:
    assume(ratio > 1.001)
    count = int((length - 0.5 - origin) / ratio) + 1
    there = Axis(origin, ratio, count, length)
    values = np.random.default_rng(0).normal(size=count)
    middles = origin + ratio * np.arange(count)
    inside = (np.arange(length) > middles[0] - ratio / 2) & (np.arange(length) < middles[-1] + ratio / 2)
    expected = np.interp(np.arange(length), middles, values)
    found = there.back().weights().toarray() @ values
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)
    assert (found[~inside] == 0).all()
