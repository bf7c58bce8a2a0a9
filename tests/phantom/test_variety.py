"""What differs between patients, so that no single sign gives the lesion away."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from ctp_ldm.phantom import PRESETS, Mix, ct
from ctp_ldm.phantom.patient import Patient, Settings, draw_patient
from ctp_ldm.phantom.simulate import Streams, Truth, draw_streams, scan_mri

from .conftest import SEED, Simulated, simulated

ONLY = Mix(emboli=0, lacune=0, hypoperfusion=0, lesion_free=0, reperfused=0, old_infarct=0, leukoaraiosis=0)


def _patients(mix: Mix, count: int = 400) -> list[Patient]:
    settings = Settings(7, "standard", mix)
    return [draw_patient(draw_streams(settings, i).hidden, settings, i) for i in range(1, count + 1)]


def _first(mix: Mix, fits: Callable[[Truth], bool] = lambda truth: True) -> Simulated:
    for index in range(1, 30):
        case = simulated(Settings(SEED, "small", mix), index)
        if fits(case.truth):
            return case
    raise AssertionError("no patient of this kind")


def test_kinds_come_in_their_shares_also_in_few_patients() -> None:
    mix = Mix()
    for count in (40, 400):
        kinds = Counter(p.kind for p in _patients(mix, count))
        assert kinds["lacune"] == pytest.approx(mix.lacune * count, abs=2)
        assert kinds["emboli"] == pytest.approx(mix.emboli * count, abs=2)
        assert kinds["hypoperfusion"] == pytest.approx(mix.hypoperfusion * count, abs=2)
        assert kinds["lesion-free"] == pytest.approx(mix.lesion_free * count, abs=2)


def test_other_shares_are_drawn_for_every_patient() -> None:
    mix = PRESETS["stress"].mix
    patients = _patients(mix)
    for share, happens in (
        (mix.reperfused, [p.reperfused for p in patients]),
        (mix.old_infarct, [p.scar_ml > 0 for p in patients]),
        (mix.leukoaraiosis, [p.leukoaraiosis > 0 for p in patients]),
        (mix.late, [p.scan == "late" for p in patients]),
        (mix.truncated * (1 - mix.late), [p.scan == "truncated" for p in patients]),
    ):
        assert np.mean(happens) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(patients)))


def test_a_scan_has_frames_before_the_bolus_and_some_end_soon_after_it() -> None:
    patients = _patients(replace(Mix(), truncated=0.3, late=0.3))
    for patient in patients:
        after = patient.frame_times_s[-1] - patient.arrival_s
        assert patient.arrival_s >= (18 if patient.scan == "late" else 6)
        assert after > 20
        if patient.scan == "truncated":
            assert after < 33


def test_reperfusion_spares_the_more_the_sooner_it_comes() -> None:
    patient = _patients(ONLY, 1)[0]
    minutes = [30.0, 120.0, 600.0, float("inf")]
    fractions = [replace(patient, recanalised_minutes=m, mri_hours=48.0).infarcted_fraction for m in minutes]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.7 < fractions[-1]


def test_low_flow_without_infarct() -> None:
    truth = _first(replace(ONLY, hypoperfusion=1)).truth
    assert not (truth.lesion.core > 0.5).any()
    low = (truth.lesion.relative_flow < 0.7) & (truth.head.tissue > 0.7)
    assert low.sum() * truth.patient.grid.voxel_ml > 10


def test_a_reperfused_core_has_its_flow_again_and_its_oedema_still() -> None:
    case = _first(replace(ONLY, reperfused=1), lambda t: t.patient.core_ml > 10 and t.patient.onset_minutes > 120)
    truth, core = case.truth, case.truth.lesion.core > 0.5
    assert core.any()
    assert truth.lesion.occluded_flow[core].mean() < 0.6
    assert truth.lesion.relative_flow[core].min() > 0.9
    assert ct.water_uptake(truth.patient, truth.lesion)[core].mean() > 0.2


def test_a_lacune_is_small_deep_and_hardly_seen_in_flow() -> None:
    truth = _first(replace(ONLY, lacune=1)).truth
    core = truth.lesion.core > 0.5
    assert 0 < core.sum() * truth.patient.grid.voxel_ml < 2.2
    assert truth.lesion.relative_flow[core].min() > 0.7
    assert (truth.head.tissue[core] > 0.7).all()


def test_old_infarcts_are_dark_on_ct_badly_perfused_and_bright_in_adc() -> None:
    case = _first(replace(ONLY, lesion_free=1, old_infarct=1), lambda t: t.patient.scar_ml > 5)
    scar, healthy = _regions(case.truth, case.truth.chronic.scar > 0.8)
    _require_old_damage(case, scar, healthy, hu=-6, flow=0.5, adc=500)


def test_leukoaraiosis_is_dark_on_ct_badly_perfused_and_bright_in_adc() -> None:
    case = _first(replace(ONLY, lesion_free=1, leukoaraiosis=1), lambda t: t.patient.leukoaraiosis > 0.6)
    diseased, healthy = _regions(case.truth, (case.truth.chronic.diseased > 0.7) & (case.truth.head.white > 0.8))
    _require_old_damage(case, diseased, healthy & (case.truth.head.white > 0.8), hu=-2, flow=0.85, adc=150)


def _regions(truth: Truth, damaged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    healthy = (truth.head.tissue > 0.9) & (truth.chronic.scar < 0.05) & (truth.chronic.diseased < 0.05)
    return damaged, healthy


def _require_old_damage(
    case: Simulated, damaged: np.ndarray, healthy: np.ndarray, hu: float, flow: float, adc: float
) -> None:
    truth = case.truth
    assert damaged.sum() > 20
    plain = ct.baseline(case.rng.ct, truth.patient, truth.head, truth.lesion, truth.chronic)
    assert plain[damaged].mean() - plain[healthy].mean() < hu
    assert truth.flow.cbf[damaged].mean() < flow * truth.flow.cbf[healthy].mean()
    still = replace(truth, patient=replace(truth.patient, **STILL))
    image = scan_mri(case.rng, still).adc
    assert np.median(image[damaged]) - np.median(image[healthy]) > adc
    assert not scan_mri(case.rng, still).label.any()


STILL = {"mri_shift_mm": (0.0, 0.0, 0.0), "mri_turn_degrees": (0.0, 0.0, 0.0), "distortion_mm": 0.0}


def _with_core() -> tuple[Truth, Callable[[], Streams]]:
    settings = Settings(SEED, "small", ONLY)
    index = next(i for i in range(1, 30) if draw_patient(draw_streams(settings, i).hidden, settings, i).core_ml > 20)
    return _first(ONLY, lambda t: t.patient.index == index).truth, lambda: draw_streams(settings, index)


def test_without_displacement_the_label_is_the_core() -> None:
    truth, streams = _with_core()
    still = replace(truth, patient=replace(truth.patient, **STILL))
    np.testing.assert_array_equal(scan_mri(streams(), still).label, truth.lesion.core > 0.5)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_shift_of_the_mri_moves_image_and_label_by_it(axis: int) -> None:
    truth, streams = _with_core()
    shift = [0.0, 0.0, 0.0]
    shift[axis] = 2.0 * truth.patient.grid.spacing[axis]
    moved = replace(truth, patient=replace(truth.patient, **{**STILL, "mri_shift_mm": tuple(shift)}))
    label = scan_mri(streams(), moved).label
    before = center_of_mass(truth.lesion.core > 0.5)
    assert np.subtract(before, center_of_mass(label))[axis] == pytest.approx(2.0, abs=0.1)


def test_ct_and_mri_are_one_to_two_millimetres_apart() -> None:
    patients = _patients(Mix())
    shifts = [np.linalg.norm(p.mri_shift_mm) for p in patients]
    assert 0.8 < np.median(shifts) < 1.6
    assert 0.5 <= min(p.distortion_mm for p in patients) < max(p.distortion_mm for p in patients) <= 1.5


@pytest.mark.parametrize(
    "shares", [{"emboli": 1.2}, {"late": -0.1}, {"lesion_free": float("nan")}, {"emboli": 0.6, "lacune": 0.6}]
)
def test_impossible_mixes_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"found .*expected"):
        Mix(**shares)
