"""The bolus is found and phases are placed by it: against curves whose arrival and values are known."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.phases import Bolus, find_bolus, mean_curve
from ctp_ldm.data.series import series_noise, series_phases
from ctp_ldm.data.volumes import Volume

from .files import volume

LEVEL, HEIGHT = 35.0, 8.0
IRREGULAR = np.array([0, 1, 2, 3, 4.5, 6, 8, 9.5, 12, 15, 17, 21, 25, 26, 30, 33, 38, 41, 47], dtype=float)
OFFSET = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@dataclass(frozen=True)
class GammaVariate:
    """(t / top)^alpha · exp(alpha (1 − t / top)) from t = 0: 1 at the top."""

    alpha: float
    top: float

    def __call__(self, t: np.ndarray) -> np.ndarray:
        u = np.maximum(t, 0) / self.top
        return u**self.alpha * np.exp(self.alpha * (1 - u))

    @property
    def arrival(self) -> float:
        rising = np.linspace(0, self.top, 20_001)
        return float(np.interp(0.1, self(rising), rising))

    def steepest(self, order: int) -> float:
        """The largest first or second derivative."""
        t = np.linspace(0, 10 * self.top, 100_001)
        values = self(t)
        for _ in range(order):
            values = np.gradient(values, t)
        return float(np.abs(values).max())


SHAPES = [GammaVariate(3, 10), GammaVariate(2, 8), GammaVariate(5, 12), GammaVariate(3, 6)]
shapes = st.sampled_from(SHAPES)
delays = st.floats(10, 25)


def _series(curve: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """Every voxel follows the curve, from its own level."""
    return (OFFSET[..., None] + gain * curve).astype(np.float32)


def baseline_and_phases(
    series: np.ndarray, times: np.ndarray, bolus: Bolus, phases: int = 15, interval: float = 2.5
) -> tuple[np.ndarray, np.ndarray]:
    made = series_phases(volume(series, times), bolus, phases, interval)
    return made[0], made[1:]


# ----------------------------------------------------------------------------------------------------------- arrival


@given(shape=shapes, delay=delays, interval=st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]))
def test_arrival_is_a_tenth_of_the_peak_smoothed_over_a_second_whatever_the_interval(
    shape: GammaVariate, delay: float, interval: float
) -> None:
    t, step = np.linspace(-10, 40, 5_001, retstep=True)
    smoothed = gaussian_filter1d(shape(t), 1.0 / step)
    top = smoothed.argmax()
    expected = np.interp(smoothed[top] / 10, smoothed[:top], t[:top])
    times = np.arange(0, 80, interval)
    bolus = find_bolus(LEVEL + HEIGHT * shape(times - delay), times)
    # What interpolation between frames leaves falls with the square of their distance.
    assert abs(bolus.arrival - delay - expected) <= 0.06 + 0.08 * interval**2
    assert bolus.enhancement == pytest.approx(
        HEIGHT * smoothed[top], abs=0.05 + HEIGHT * shape.steepest(2) * interval**2 / 8
    )
    assert abs(bolus.peak - delay - shape.top) <= interval


@given(shape=shapes, delay=delays, shift=st.floats(-8, 12), interval=st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]))
def test_a_later_bolus_arrives_as_much_later(shape: GammaVariate, delay: float, shift: float, interval: float) -> None:
    times = np.arange(0, 90, interval)
    curves = [LEVEL + HEIGHT * shape(times - at) for at in (delay, max(10.0, delay + shift))]
    first, second = (find_bolus(curve, times).arrival for curve in curves)
    assert abs(second - first - (max(10.0, delay + shift) - delay)) <= interval / 5


@given(shape=shapes, delay=delays, gaps=st.lists(st.floats(0.8, 3), min_size=90, max_size=90), seed=st.integers(0, 999))
def test_arrival_is_met_within_a_frame_of_any_timing_and_noise(
    shape: GammaVariate, delay: float, gaps: list[float], seed: int
) -> None:
    """0.03 HU is the noise that a mean over 100 000 voxels of 10 HU has."""
    times = np.cumsum([0.0, *gaps])
    noise = np.random.default_rng(seed).normal(0, 0.03, len(times))
    bolus = find_bolus(LEVEL + HEIGHT * shape(times - delay) + noise, times)
    assert abs(bolus.arrival - delay - shape.arrival) <= max(gaps)


@given(shape=shapes, delay=delays, dose=st.floats(0.3, 20), level=st.floats(-10, 1100), clock=st.floats(-1e3, 1e3))
def test_dose_level_and_clock_do_not_move_the_arrival(
    shape: GammaVariate, delay: float, dose: float, level: float, clock: float
) -> None:
    times = np.arange(0, 75, 1.0)
    reference = find_bolus(LEVEL + HEIGHT * shape(times - delay), times)
    found = find_bolus(level + dose * HEIGHT * shape(times - delay), times + clock)
    assert found.arrival - clock == pytest.approx(reference.arrival, abs=1e-6)
    assert found.enhancement == pytest.approx(dose * reference.enhancement, abs=1e-6)
    np.testing.assert_array_equal(found.before, reference.before)


@given(shape=shapes, delay=delays)
def test_what_lies_two_seconds_before_arrival_is_before_contrast(shape: GammaVariate, delay: float) -> None:
    times = np.arange(0, 75, 1.0)
    bolus = find_bolus(LEVEL + HEIGHT * shape(times - delay), times)
    assert bolus.before.sum() >= 8
    assert times[bolus.before].max() <= bolus.arrival - 2 < times[~bolus.before].min()


# ---------------------------------------------------------------------------------------------------------- refusals

TIMES = np.arange(0, 60.0)
CURVE = GammaVariate(3, 10)


@pytest.mark.parametrize(
    ("times", "found"),
    [
        (np.arange(7) * 8.0, "7 frames over 48.0 s"),
        (np.arange(61) * 10.1, "61 frames over 606.0 s"),
        (np.arange(60) * 1000.0, "60 frames over 59000.0 s"),
    ],
)
def test_too_few_frames_or_too_long_a_scan_is_refused(times: np.ndarray, found: str) -> None:
    with pytest.raises(DataFault, match=rf"has {found}; expected at least 8 frames within 600 s .*frame_interval"):
        find_bolus(LEVEL + CURVE(times - 15), times)


@given(seed=st.integers(0, 10_000), noise=st.floats(0, 0.15), drift=st.floats(-0.005, 0.005))
def test_noise_and_drift_are_no_bolus(seed: int, noise: float, drift: float) -> None:
    curve = LEVEL + drift * TIMES + np.random.default_rng(seed).normal(0, noise, TIMES.shape)
    with pytest.raises(
        DataFault, match=r"no bolus is seen in 60 frames over 59\.0 s: .* expected at least \d+\.\d\d HU"
    ):
        find_bolus(curve, TIMES)


@pytest.mark.parametrize("late", [-12.0, -25.0], ids=["at-its-peak", "washing-out"])
def test_a_bolus_that_came_before_the_scan_is_refused(late: float) -> None:
    with pytest.raises(DataFault, match=r"no bolus is seen .* contrast came after the scan, or before it"):
        find_bolus(LEVEL + HEIGHT * CURVE(TIMES - late), TIMES)


def test_a_bolus_that_comes_after_the_scan_is_refused() -> None:
    with pytest.raises(DataFault, match=r"no bolus is seen .* rises by 0\.00 HU over 35\.0 HU"):
        find_bolus(LEVEL + HEIGHT * CURVE(TIMES - 70), TIMES)


@pytest.mark.parametrize("late", [-5.0, -3.0, -1.0, -0.6])
def test_a_scan_that_starts_while_the_brain_fills_is_refused(late: float) -> None:
    with pytest.raises(DataFault, match=r"no frame before contrast in 60 frames .* expected at least 2 s"):
        find_bolus(LEVEL + HEIGHT * CURVE(TIMES - late), TIMES)


@pytest.mark.parametrize("late", [51.0, 53.0])
def test_a_scan_that_ends_while_the_brain_fills_is_refused(late: float) -> None:
    with pytest.raises(DataFault, match=r"ends before the bolus has passed: .* still rises at the end of 60 frames"):
        find_bolus(LEVEL + HEIGHT * CURVE(TIMES - late), TIMES)


# ------------------------------------------------------------------------------------------------------------ phases


def _bolus(arrival: float, times: np.ndarray) -> Bolus:
    return Bolus(arrival, arrival + 10, HEIGHT, times <= arrival - 2)


@pytest.mark.parametrize("start", [0.0, 37.5], ids=["from-0", "clock-runs-before"])
@pytest.mark.parametrize("slope", [-0.7, 2.0])
def test_a_linear_ramp_is_met_exactly_at_every_phase(start: float, slope: float) -> None:
    times = IRREGULAR + start
    before, phases = baseline_and_phases(_series(slope * IRREGULAR), times, _bolus(5 + start, times), 15, 2.5)
    np.testing.assert_allclose(before, OFFSET + slope * 1.5, atol=1e-5)
    assert phases.shape == (15, 2, 3, 4)
    assert before.dtype == phases.dtype == np.float32
    for i, phase in enumerate(phases):
        np.testing.assert_allclose(phase, slope * (5 + 2.5 * i) - slope * 1.5, atol=1e-4)


@pytest.mark.parametrize("times", [IRREGULAR, np.arange(0, 50, 0.8), np.arange(0, 60, 3.0)])
def test_a_curve_is_met_within_the_error_of_lines_and_of_their_mean(times: np.ndarray) -> None:
    """A line between frames d apart errs by up to d²/8, a mean over a window w wide by w²/24 times the curvature."""
    curve = GammaVariate(3, 10)
    _, phases = baseline_and_phases(_series(40 * curve(times - 5)), times, _bolus(7, times))
    at = 7 + 2.5 * np.arange(15)
    inside = at < times[-1] - 2.5
    near = [np.diff(times)[np.abs((times[1:] + times[:-1]) / 2 - t) < 4].max() for t in at[inside]]
    bound = (np.square(near) / 8 + np.square(np.maximum(near, 2.5)) / 24) * 40 * curve.steepest(2)
    assert (np.abs(phases[inside, 0, 0, 0] - 40 * curve(at[inside] - 5)) <= bound + 1e-4).all()


@given(shape=shapes, delay=delays, shift=st.floats(0, 20), interval=st.sampled_from([1.0, 2.0]))
def test_early_and_late_scans_of_a_patient_line_up(
    shape: GammaVariate, delay: float, shift: float, interval: float
) -> None:
    times = np.arange(0, 110, interval)
    found, arrivals = [], []
    for at in (delay, delay + shift):
        bolus = find_bolus(LEVEL + HEIGHT * shape(times - at), times)
        # An artery, which fills 1 s before the brain, tissue, and tissue that fills 6 s late.
        curves = np.stack([60 * shape(times - at + 1), 3 * shape(times - at), 2 * shape(times - at - 6)])
        found.append(baseline_and_phases(curves[:, None, None], times, bolus, 15, 2.5)[1])
        arrivals.append(bolus.arrival)
    apart = abs(arrivals[1] - arrivals[0] - shift)
    assert apart <= interval / 5
    heights = np.array([60, 3, 2])[None, :, None, None]
    bound = heights * (apart * shape.steepest(1) + 2 * interval**2 / 8 * shape.steepest(2))
    assert (np.abs(found[1] - found[0]) <= bound + 1e-3).all()


@given(frames=st.integers(1, 20))
def test_a_scan_that_starts_whole_frames_earlier_gives_exactly_the_same(frames: int) -> None:
    times = np.arange(0, 75.0)
    curves = [LEVEL + HEIGHT * CURVE(times - at) for at in (12.3, 12.3 + frames)]
    first, second = (baseline_and_phases(_series(c), times, find_bolus(c, times), 15, 2.5)[1] for c in curves)
    np.testing.assert_allclose(second, first, atol=1e-4)


@pytest.mark.parametrize(("arrival", "frames"), [(2.0, 1), (2.9, 1), (5.0, 4), (7.0, 5)])
def test_the_baseline_is_the_mean_of_exactly_the_frames_before_contrast(arrival: float, frames: int) -> None:
    series = np.random.default_rng(0).normal(30, 5, (2, 3, 4, len(IRREGULAR))).astype(np.float32)
    before, phases = baseline_and_phases(series, IRREGULAR, _bolus(arrival, IRREGULAR), 15, 2.5)
    expected = series[..., :frames].astype(np.float64).mean(axis=-1)
    np.testing.assert_allclose(before, expected, rtol=1e-6)
    assert IRREGULAR[-1] == 47
    np.testing.assert_allclose(phases[-1], _line_at(series, arrival + 35) - expected, atol=1e-3)


def _line_at(series: np.ndarray, time: float) -> np.ndarray:
    """By a line fitted to ten thousand points of the curve between 2.5 s or the frames around."""
    right = int(np.searchsorted(IRREGULAR, time))
    half = max(2.5, IRREGULAR[right] - IRREGULAR[right - 1]) / 2
    half = min(half, IRREGULAR[-1] - time)
    fine = np.linspace(time - half, time + half, 10_001)

    def fitted(curve: np.ndarray) -> float:
        return float(np.polyfit(fine - time, np.interp(fine, IRREGULAR, curve), 1)[1])

    return np.apply_along_axis(fitted, -1, series)


def test_phases_after_a_short_scan_hold_its_last_frame() -> None:
    times = np.arange(0, 31.0)
    _, phases = baseline_and_phases(_series(times), times, _bolus(8, times), 15, 2.5)
    np.testing.assert_allclose(phases[:9, 0, 0, 0], 8 + 2.5 * np.arange(9) - 3, atol=1e-5)
    np.testing.assert_allclose(phases[9:], 30 - 3, atol=1e-5)


@pytest.mark.parametrize("phases", [9, 15])
@pytest.mark.parametrize("interval", [1.5, 2.5])
def test_a_scan_must_show_half_of_the_phases(phases: int, interval: float) -> None:
    times, half = np.arange(0, 60.0), phases * interval / 2
    _, made = baseline_and_phases(_series(times), times, _bolus(59 - half, times), phases, interval)
    assert len(made) == phases
    message = (
        rf"ends {half - 0.5:.1f} s after the bolus arrives \(at {59.5 - half:.1f} of 59\.0 s\); .*{half:.1f} s, half of"
    )
    with pytest.raises(DataFault, match=message):
        baseline_and_phases(_series(times), times, _bolus(59.5 - half, times), phases, interval)


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5, 0.8])
def test_the_noise_of_phases_is_as_reported(offset: float) -> None:
    """Of white noise of SD 1, whatever the bolus' place between frames."""
    times, arrival = np.arange(0, 60.0), 12 + offset
    series = np.random.default_rng(0).normal(size=(40, 40, 10, 60)).astype(np.float32)
    _, phases = baseline_and_phases(series, times, _bolus(arrival, times))
    reported = series_noise(volume(series, times), _bolus(arrival, times), 15, 2.5)
    np.testing.assert_allclose(phases.std(axis=(1, 2, 3)), reported, rtol=0.03)
    # Of the fit 0.571, of the mean of eleven frames before contrast 1/√11.
    np.testing.assert_allclose(reported, np.sqrt(0.3257 + 1 / 11), rtol=0.004)


def test_frames_in_which_a_slice_is_lost_count_neither_in_its_phases_nor_in_its_baseline() -> None:
    """Whatever stands in their place: as if the slice had never been taken then."""
    series = np.random.default_rng(0).normal(30, 5, (2, 3, 4, 60)).astype(np.float32)
    times, lost = np.arange(0, 60.0), np.zeros((4, 60), bool)
    lost[1, [3, 20, 21]] = lost[2, -1] = True
    bolus = _bolus(12.3, times)
    holed = Volume(**{**volume(series, times).__dict__, "lost": lost})
    holed.values.transpose(2, 3, 0, 1)[lost] = 1e6
    found = series_phases(holed, bolus, 15, 2.5)
    for z in range(4):
        seen = ~lost[z]
        alone = series_phases(volume(series[:, :, z : z + 1, seen], times[seen]), bolus, 15, 2.5)
        np.testing.assert_allclose(found[..., z : z + 1], alone, atol=1e-4)
    assert (series_noise(holed, bolus, 15, 2.5) > series_noise(volume(series, times), bolus, 15, 2.5)).any()


def test_the_mean_curve_is_that_of_the_brain() -> None:
    series = np.random.default_rng(0).normal(size=(5, 4, 3, 9)).astype(np.float32)
    brain = np.random.default_rng(1).random((5, 4, 3)) > 0.5
    np.testing.assert_allclose(mean_curve(series, brain), series[brain].mean(axis=0, dtype=np.float64), rtol=1e-12)
