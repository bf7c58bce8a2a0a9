"""A perfusion series of any length becomes a baseline and phases: against curves whose values are known."""

import numpy as np
import pytest

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.phases import baseline_and_phases, precontrast

IRREGULAR = np.array([0, 1, 2, 3, 4.5, 6, 8, 9.5, 12, 15, 17, 21, 25, 26, 30, 33, 38, 41, 47], dtype=float)
OFFSET = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def _series(curve: np.ndarray) -> np.ndarray:
    """Every voxel follows the curve, from its own level."""
    return (OFFSET[..., None] + curve).astype(np.float32)


@pytest.mark.parametrize("start", [0.0, 37.5], ids=["from-0", "clock-runs-before"])
@pytest.mark.parametrize("slope", [-0.7, 2.0])
def test_a_linear_ramp_is_met_exactly_at_every_phase(start: float, slope: float) -> None:
    before, phases = baseline_and_phases(_series(slope * IRREGULAR), IRREGULAR + start, 15, 3.0, 3.0)
    np.testing.assert_allclose(before, OFFSET + slope * 1.5, atol=1e-5)
    assert phases.shape == (15, 2, 3, 4)
    for i, phase in enumerate(phases, start=1):
        np.testing.assert_allclose(phase, slope * 3.0 * i - slope * 1.5, atol=1e-4)


@pytest.mark.parametrize("times", [IRREGULAR, np.arange(0, 50, 0.8), np.arange(0, 60, 3.0)])
def test_a_bolus_is_met_within_the_error_of_linear_interpolation(times: np.ndarray) -> None:
    height, width, peak = 40.0, 6.0, 22.0

    def bolus(t: np.ndarray) -> np.ndarray:
        return height * np.exp(-(((t - peak) / width) ** 2) / 2)

    _, phases = baseline_and_phases(_series(bolus(times)), times, 15, 3.0, 3.0)
    at = 3.0 * np.arange(1, 16)
    # |f''| of a Gaussian is largest at its peak: height / width²; an interval of length h adds h² / 8 of it.
    right = np.searchsorted(times, at).clip(1, len(times) - 1)
    bound = (times[right] - times[right - 1]) ** 2 / 8 * height / width**2
    held = np.minimum(at, times[-1])
    expected = bolus(held) - bolus(times[times <= 3.0]).mean()
    assert (np.abs(phases[:, 0, 0, 0] - expected) <= bound + 1e-4).all()


@pytest.mark.parametrize(("seconds", "frames"), [(0.0, 1), (0.9, 1), (3.0, 4), (5.0, 5)])
def test_the_baseline_is_the_mean_of_exactly_the_first_seconds(seconds: float, frames: int) -> None:
    series = np.random.default_rng(0).normal(30, 5, (2, 3, 4, len(IRREGULAR))).astype(np.float32)
    expected = series[..., :frames].astype(np.float64).mean(axis=-1)
    np.testing.assert_allclose(precontrast(series, IRREGULAR, seconds), expected, rtol=1e-6)
    before, _ = baseline_and_phases(series, IRREGULAR, 15, 3.0, seconds)
    np.testing.assert_allclose(before, expected, rtol=1e-6)


def test_phases_after_a_short_scan_hold_its_last_frame() -> None:
    times = np.arange(0, 31.0)
    _, phases = baseline_and_phases(_series(times), times, 15, 3.0, 3.0)
    np.testing.assert_allclose(phases[:10, 0, 0, 0], 3.0 * np.arange(1, 11) - 1.5, atol=1e-5)
    np.testing.assert_allclose(phases[10:], 30 - 1.5, atol=1e-5)


@pytest.mark.parametrize(
    ("times", "found"),
    [
        (np.arange(7) * 8.0, "7 frames over 48.0 s"),
        (np.arange(23) * 1.0, "23 frames over 22.0 s"),
        (np.arange(60) * 0.001, "60 frames over 0.1 s"),
    ],
)
def test_a_scan_too_short_to_show_a_bolus_is_refused(times: np.ndarray, found: str) -> None:
    with pytest.raises(DataFault, match=rf"{found}; expected at least 8 frames and 22\.5 s"):
        baseline_and_phases(_series(times), times, 15, 3.0, 3.0)


def test_half_of_the_span_is_enough() -> None:
    times = np.linspace(0, 22.5, 8)
    _, phases = baseline_and_phases(_series(times), times, 15, 3.0, 3.0)
    assert np.isfinite(phases).all()
