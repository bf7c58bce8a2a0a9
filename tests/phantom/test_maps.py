"""Perfusion maps against closed forms without noise, and against the truth behind noisy patients."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ctp_ldm.phantom.ct import VEIN_MTT_S
from ctp_ldm.phantom.haemodynamics import ArterialInput, Bolus, patient_bolus, tissue_curve
from ctp_ldm.phantom.maps import SD_OVER_FWHM, SMOOTHING_MM, PerfusionMaps, arterial_input, perfusion_maps
from ctp_ldm.phantom.simulate import Truth, scan_ct

from .conftest import Simulated

AIF = ArterialInput(arrival_s=8.0, beta_s=2.0, peak_hu=300.0, recirculation=0.15)
TIMES = np.arange(0, 60, 1.5)
SPACING = np.array([5.0, 5.0, 10.0])

Tissue = tuple[float, float, float]
HEALTHY: list[Tissue] = [(60.0, 4.0, 0.0), (25.0, 4.8, 0.0)]
"""CBF in mL/100 g/min, MTT in s, delay in s."""


def _series(tissues: list[Tissue], times: np.ndarray = TIMES, artery: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """HU without noise and the brain: a voxel of artery and one of vein in slice 0, then a slice per tissue."""
    bolus = Bolus(AIF, 100.0)
    series = np.full((24, 24, 1 + len(tissues), times.size), 35.0)
    brain = np.ones(series.shape[:3], bool)
    brain[..., 0] = False
    brain[4, 4, 0] = brain[19, 19, 0] = True
    series[4, 4, 0] += artery * AIF(times)
    series[19, 19, 0] += bolus(times - 3.0, VEIN_MTT_S) / VEIN_MTT_S
    for z, tissue in enumerate(tissues, start=1):
        series[:, :, z] += tissue_curve(bolus, times, *tissue)
    return series, brain


def _measured(tissues: list[Tissue], times: np.ndarray = TIMES, artery: float = 1.0) -> PerfusionMaps:
    """The maps of `_series`, one value per tissue."""
    series, brain = _series(tissues, times, artery)
    maps = perfusion_maps(series, times, SPACING, brain)
    for image in maps:
        np.testing.assert_allclose(image[..., 1:], np.broadcast_to(image[12, 12, 1:], image[..., 1:].shape), rtol=1e-4)
    return PerfusionMaps(*(image[12, 12, 1:] for image in maps))


@pytest.mark.parametrize(
    ("cbf", "mtt", "least", "most"),
    # What truncation leaves of the residue's peak: about half of a healthy one's, more of a long one's.
    [(60.0, 4.0, 0.4, 0.6), (25.0, 4.8, 0.45, 0.65), (20.0, 10.0, 0.65, 0.85), (10.0, 15.0, 0.75, 1.0)],
)
def test_known_tissue_comes_back(cbf: float, mtt: float, least: float, most: float) -> None:
    measured = _measured([*HEALTHY, (cbf, mtt, 0.0)])
    assert least < measured.cbf[-1] / cbf < most
    # Where MTT is long, the scan ends before all contrast has left.
    assert measured.cbv[-1] == pytest.approx(cbf * mtt / 60, rel=0.02 if mtt < 5 else 0.1)
    assert measured.mtt[-1] == pytest.approx(60 * measured.cbv[-1] / measured.cbf[-1], rel=1e-4)
    assert measured.tmax[-1] <= 4


def test_delay_moves_tmax_and_nothing_else() -> None:
    delays = [0.0, 2.0, 5.0, 9.0]
    measured = _measured([(50.0, 4.5, delay) for delay in delays])
    np.testing.assert_allclose(measured.tmax - measured.tmax[0], delays, atol=1.0)
    for values in measured[:3]:
        np.testing.assert_allclose(values, values[0], rtol=0.03)


def test_tissue_may_fill_before_the_arterial_input() -> None:
    """Its residue peaks at the far end of the cyclic time axis: CBF is the same, and Tmax is not negative."""
    measured = _measured([(50.0, 4.5, delay) for delay in (0.0, -2.0, -5.0)])
    np.testing.assert_allclose(measured.cbf, measured.cbf[0], rtol=0.03)
    late, early, earlier = measured.tmax
    assert late > early >= earlier == 0


def test_partial_volume_of_the_artery_is_corrected() -> None:
    whole, half = (_measured(HEALTHY, artery=filled) for filled in (1.0, 0.5))
    for expected, found in zip(whole, half, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0.02)


def test_frames_may_come_at_any_intervals() -> None:
    regular = _measured([*HEALTHY, (15.0, 10.0, 6.0)])
    irregular = _measured([*HEALTHY, (15.0, 10.0, 6.0)], 3.7 + np.r_[np.arange(0, 30, 1.1), np.arange(30, 60, 2.7)])
    np.testing.assert_allclose(irregular.cbf, regular.cbf, rtol=0.05)
    np.testing.assert_allclose(irregular.cbv, regular.cbv, rtol=0.05)
    np.testing.assert_allclose(irregular.tmax, regular.tmax, atol=1.0)


def test_maps_are_zero_where_nothing_flows() -> None:
    series, brain = _series([*HEALTHY, (0.0, 4.0, 0.0)])
    maps = perfusion_maps(series, TIMES, SPACING, brain)
    for image in maps:
        assert image.dtype == np.float32
        assert image.shape == brain.shape
        assert np.isfinite(image).all()
        assert not image[~brain].any()
        assert not image[..., -1].any()
    assert (maps.cbf[..., 1] > 0).all()


@pytest.mark.parametrize("case", ["no brain", "no bolus", "noise", "one frame", "half a second"])
def test_no_flow_no_maps(case: str) -> None:
    series, brain = _series(HEALTHY)
    times = TIMES
    if case == "no brain":
        brain[:] = False
    elif case == "no bolus":
        series[:] = 0
    elif case == "noise":
        series = np.random.default_rng(0).normal(35, 4, series.shape).round().astype(np.int16)
    elif case == "one frame":
        series, times = series[..., :1], times[:1]
    else:
        series, times = series[..., [0, 9]], np.array([0.0, 0.5])
    with np.errstate(divide="raise", invalid="raise"):
        maps = perfusion_maps(series, times, SPACING, brain)
    assert all(image.shape == brain.shape and not image.any() for image in maps)


def test_strange_curves_give_finite_maps_within_their_ranges() -> None:
    rng = np.random.default_rng(0)
    series, brain = _series(HEALTHY)
    drift = 30 * np.sin(TIMES / 7) + rng.normal(0, 300, series.shape)
    spike = np.where(TIMES[-1] == TIMES, 3071.0, series)
    for strange in (series + drift, series - 40 * TIMES, series[..., ::-1], spike):
        with np.errstate(divide="raise", invalid="raise"):
            maps = perfusion_maps(strange, TIMES, SPACING, brain)
        for image, most in zip(maps, (200, 20, 30, 30), strict=True):
            assert np.isfinite(image).all()
            assert 0 <= image.min() <= image.max() <= most


def test_whole_numbers_in_file_order_are_as_good() -> None:
    series, brain = _series(HEALTHY)
    rounded = np.asfortranarray(np.rint(series).astype(np.int16))
    maps = perfusion_maps(series, TIMES, SPACING, brain)
    np.testing.assert_allclose(perfusion_maps(rounded, TIMES, SPACING, brain).cbf, maps.cbf, rtol=0.1)


def test_bad_arguments_are_named() -> None:
    series, brain = _series(HEALTHY)
    with pytest.raises(ValueError, match=r"series: found shape .*, expected"):
        perfusion_maps(series[..., 1:], TIMES, SPACING, brain)
    with pytest.raises(ValueError, match=r"times: found .*, expected increasing"):
        perfusion_maps(series, TIMES[::-1], SPACING, brain)


@dataclass
class Scanned:
    """A patient, the noisy series and its maps."""

    truth: Truth
    series: np.ndarray
    maps: PerfusionMaps

    def smooth(self, image: np.ndarray) -> np.ndarray:
        """The truth as it looks through the smoothing of the maps."""
        brain, spacing = self.truth.brain, self.truth.patient.grid.spacing
        sigma = (SMOOTHING_MM * SD_OVER_FWHM / spacing[0], SMOOTHING_MM * SD_OVER_FWHM / spacing[1], 0)
        inside, weight = (gaussian_filter(np.where(brain, m, 0).astype(np.float32), sigma) for m in (image, brain))
        return np.where(brain, inside / np.maximum(weight, 1e-6), 0)

    def tissue(self, least_flow: float, most_flow: float) -> np.ndarray:
        """Tissue away from fluid and large vessels with flow relative to healthy in a range."""
        head, flow = self.truth.head, self.truth.flow.relative_flow
        solid = (self.smooth(head.tissue) > 0.85) & (self.smooth(head.artery + head.vein) < 0.01)
        return solid & (flow >= least_flow) & (flow <= most_flow)


@pytest.fixture(scope="module")
def scanned(patients: list[Simulated]) -> list[Scanned]:
    # Noise of their own, whichever tests have drawn from the patients' streams before.
    computed = [scan_ct(p.rng._replace(ct=np.random.default_rng(i)), p.truth) for i, p in enumerate(patients)]
    return [Scanned(p.truth, c.series, c.maps) for p, c in zip(patients, computed, strict=True)]


def test_arterial_input_of_a_patient_is_found(scanned: list[Scanned]) -> None:
    for s in scanned:
        patient = s.truth.patient
        times, true = np.array(patient.frame_times_s), patient_bolus(patient).aif
        curves = s.series[s.truth.brain].T.astype(np.float32)
        curves -= curves[times < patient.arrival_s].mean(axis=0)
        found = arterial_input(curves, np.eye(times.size), patient.grid.voxel_ml)
        for level in (0.1, 0.5, 1.0):  # where the curve rises to it, give or take a frame
            expected, at = (np.argmax(c >= level * c.max()) for c in (true(times), found))
            assert at == pytest.approx(expected, abs=1)
        assert found.max() == pytest.approx(true.peak_hu, rel=0.2)
        assert found.sum() == pytest.approx(true(times).sum(), rel=0.1)


def test_healthy_tissue_of_noisy_patients(scanned: list[Scanned]) -> None:
    for s in scanned:
        healthy = s.tissue(0.98, 1.2)
        grey, white = (healthy & (s.smooth(m) > 0.8) for m in (s.truth.head.grey, s.truth.head.white))
        assert 0.4 < np.median(s.maps.cbf[healthy] / s.smooth(s.truth.flow.cbf)[healthy]) < 0.75
        assert np.median(s.maps.cbv[healthy] / s.smooth(s.truth.flow.cbv)[healthy]) == pytest.approx(1, abs=0.1)
        assert 1.5 < np.median(s.maps.cbf[grey]) / np.median(s.maps.cbf[white]) < 2.4
        assert 6 < np.median(s.maps.mtt[healthy]) < 11
        assert 1 <= np.median(s.maps.tmax[healthy]) <= 4
        assert np.mean(s.maps.tmax[healthy] > 6) < 0.05


def test_maps_rank_tissue_as_the_truth_does(scanned: list[Scanned]) -> None:
    for s in scanned:
        tissue = s.tissue(0.0, 1.2)
        for name, least in (("cbf", 0.7), ("cbv", 0.5)):
            found, true = getattr(s.maps, name)[tissue], s.smooth(getattr(s.truth.flow, name))[tissue]
            assert np.corrcoef(found, true)[0, 1] > least


def test_deficit_of_noisy_patients(scanned: list[Scanned]) -> None:
    deficits = 0
    for s in scanned:
        low, healthy = s.tissue(0.0, 0.4), s.tissue(0.98, 1.2)
        if low.sum() < 100:
            continue
        deficits += 1
        true = s.truth.flow.cbf[low].mean() / s.truth.flow.cbf[healthy].mean()
        # Shallower than the truth: truncation spares long residues, and noise lifts the maximum of small ones.
        assert true < s.maps.cbf[low].mean() / s.maps.cbf[healthy].mean() < 0.7
        assert np.median(s.maps.tmax[low]) > np.median(s.maps.tmax[healthy]) + 4
        late = low & (s.smooth(s.truth.flow.delay) > 5)
        assert np.mean(s.maps.tmax[late] > 6) > 0.6
    assert deficits >= 2
