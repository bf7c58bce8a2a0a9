"""The fit of a phase: against numpy's, closed forms of its noise, and what must hold at any times."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctp_ldm.data.fits import fit_weights
from ctp_ldm.data.phases import phase_weights, relative_noise

# Dense and sparse in any order, down to frames a hundredth of a second apart.
scans = st.lists(st.floats(0.01, 8), min_size=2, max_size=40).map(lambda gaps: np.cumsum([0.0, *gaps]))
places = st.floats(0, 1)
intervals = st.floats(0.5, 6)
dense_then_sparse = np.array([*np.arange(0, 40.0), *np.arange(40, 80, 3.0)])


@given(times=scans, place=places, interval=intervals, clock=st.floats(-1e3, 1e3))
def test_lines_are_met_exactly_and_noise_is_never_above_a_frames(
    times: np.ndarray, place: float, interval: float, clock: float
) -> None:
    at = times[-1] * place + clock
    weights = fit_weights(times + clock, at, interval)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert weights @ (times + clock - at) == pytest.approx(0, abs=1e-5)
    assert weights.min() >= 0
    assert relative_noise(weights) <= 1 + 1e-9


@settings(deadline=None)
@given(times=scans, place=places, interval=intervals)
def test_it_is_numpys_fit_to_the_curve_around(times: np.ndarray, place: float, interval: float) -> None:
    at = times[-1] * place
    gaps = [b - a for a, b in pairwise(times) if a <= at <= b]
    half = max(min(max(interval, *gaps) / 2, at, times[-1] - at), 1e-6)
    fine = np.linspace(at - half, at + half, 20_001)
    curve = np.random.default_rng(len(times)).normal(size=len(times))
    expected = np.polyfit(fine - at, np.interp(fine, times, curve), 1)[1]
    assert fit_weights(times, at, interval) @ curve == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("at", [20.0, 20.31, 20.5, 20.99])
@pytest.mark.parametrize("spacing", [0.25, 0.5])
def test_of_dense_frames_the_noise_is_that_of_their_mean(spacing: float, at: float) -> None:
    """n frames within the window: 1/√n."""
    weights = fit_weights(np.arange(0, 40, spacing), at, 2.5)
    assert relative_noise(weights) == pytest.approx(np.sqrt(spacing / 2.5), rel=0.06)


@pytest.mark.parametrize(
    ("spacing", "noise", "apart"),
    [(1.0, 0.5704, 0.001), (1.25, 0.619, 0.02), (1.5, 0.658, 0.01), (2.0, 0.710, 0.02), (3.0, 0.739, 0.05)],
)
def test_the_noise_hardly_depends_on_where_a_phase_falls(spacing: float, noise: float, apart: float) -> None:
    """Interpolation between two frames has 0.71–1."""
    times = spacing * np.arange(40)
    found = [relative_noise(fit_weights(times, 30 + shift, 2.5)) for shift in np.linspace(0, spacing, 31)]
    np.testing.assert_allclose(found, noise, rtol=apart)


@pytest.mark.parametrize("times", [np.arange(0, 40.0), dense_then_sparse])
@pytest.mark.parametrize("frame", [0, -1])
def test_at_the_ends_of_a_scan_it_is_the_frame(times: np.ndarray, frame: int) -> None:
    alone = np.eye(len(times))[frame]
    np.testing.assert_allclose(fit_weights(times, times[frame], 2.5), alone, atol=1e-6)


def test_noise_in_closed_form() -> None:
    """Frames 1 s apart, on a frame and half-way: integrals of triangles over 2.5 s."""
    on_frame = np.array([1 / 32, 23 / 32, 1, 23 / 32, 1 / 32]) / 2.5
    half_way = np.array([9 / 32, 31 / 32, 31 / 32, 9 / 32]) / 2.5
    times = np.arange(0, 40.0)
    np.testing.assert_allclose(fit_weights(times, 20.0, 2.5)[18:23], on_frame, atol=1e-12)
    np.testing.assert_allclose(fit_weights(times, 20.5, 2.5)[19:23], half_way, atol=1e-12)


@pytest.mark.parametrize("spacing", [3.0, 4.0])
def test_at_half_way_of_sparse_frames_it_is_interpolation(spacing: float) -> None:
    times = spacing * np.arange(12)
    np.testing.assert_allclose(fit_weights(times, 5.5 * spacing, 2.5)[5:7], 0.5, atol=1e-12)


@pytest.mark.parametrize("times", [np.arange(0, 90, 0.7), np.arange(0, 90, 1.0), np.arange(0, 90, 2.4)])
def test_nothing_between_phases_is_left_out_and_nothing_counts_twice(times: np.ndarray) -> None:
    """Together the phases weigh a frame by the time that it stands for."""
    together = 2.5 * sum(fit_weights(times, 10.3 + 2.5 * p, 2.5) for p in range(24))
    within = (times > 12) & (times < 64)
    np.testing.assert_allclose(together[within], times[1], atol=1e-9)


@pytest.mark.parametrize("arrival", np.linspace(10, 40, 13))
def test_noise_stays_bounded_where_a_dense_scan_becomes_sparse(arrival: float) -> None:
    weights = phase_weights(dense_then_sparse, arrival, 15, 2.5)
    assert weights[0].sum() == pytest.approx(1)
    np.testing.assert_allclose(weights[1:].sum(axis=1), 0, atol=1e-9)
    before = int((dense_then_sparse <= arrival - 2).sum())
    assert relative_noise(weights[1:]).max() <= np.sqrt(0.8**2 + 1 / before)


# -------------------------------------------------------------------------------------------------------- what it costs


def _gamma(t: np.ndarray, beta: float) -> np.ndarray:
    """A gamma variate of alpha 3 that peaks at 0 with 1."""
    u = np.maximum(t / (3 * beta) + 1, 0)
    return u**3 * np.exp(3 * (1 - u))


def _tissue(t: np.ndarray, beta: float) -> np.ndarray:
    """That, gone through tissue of 4 s transit time, scaled and shifted to peak at 0 with 1."""
    fine = np.arange(-20, 60, 0.02)
    curve = np.convolve(_gamma(fine - 3 * beta, beta), np.exp(-np.arange(0, 40, 0.02) / 4))[: len(fine)]
    return np.interp(t + fine[curve.argmax()], fine, curve / curve.max())


@pytest.mark.parametrize(
    ("curve", "beta", "lost"),
    [
        (_gamma, 1.5, (0.048, 0.051)),
        (_gamma, 2.0, (0.027, 0.030)),
        (_gamma, 2.5, (0.017, 0.020)),
        (_tissue, 1.5, (0.021, 0.024)),
        (_tissue, 2.5, (0.009, 0.012)),
    ],
)
def test_what_a_peak_loses(curve, beta: float, lost: tuple[float, float]) -> None:  # type: ignore[no-untyped-def]
    """Of frames 1 s apart, with a phase on the peak wherever between frames that lies.

    The mean over 2.5 s alone costs 3.8 % at beta = 1.5, lines between frames the rest.
    """
    times = np.arange(0, 80.0)
    for peak in 40 + np.linspace(0, 1, 9):
        assert lost[0] <= 1 - fit_weights(times, peak, 2.5) @ curve(times - peak, beta) <= lost[1]
