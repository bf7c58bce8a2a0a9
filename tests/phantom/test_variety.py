"""What differs between patients, so that no single sign gives the lesion away."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from ctp_ldm.phantom import PRESETS, Mix, changed, ct, lesions
from ctp_ldm.phantom.lesions import EDGE_FLOW, LETHAL_FLOW, LETHAL_MINUTES, draw_lesion
from ctp_ldm.phantom.patient import Patient, Settings, draw_patient
from ctp_ldm.phantom.simulate import Streams, Truth, draw_streams, scan_mri

from .conftest import SEED, Simulated, simulated

ONLY = Mix(emboli=0, lacune=0, hypoperfusion=0, lesion_free=0, reperfused=0, old_infarct=0, leukoaraiosis=0)
CASE_SETTINGS = Settings(SEED, "small", ONLY)


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


def _core_ml(case: Simulated, **changes: float) -> float:
    """Of the same patient, all random fields alike, with other hidden parameters."""
    patient = replace(case.truth.patient, **changes)
    lesion = draw_lesion(draw_streams(CASE_SETTINGS, patient.index).lesion, patient, case.truth.head)
    return float((lesion.core > 0.5).sum() * patient.grid.voxel_ml)


def test_more_time_and_worse_collaterals_kill_more() -> None:
    for case in [simulated(CASE_SETTINGS, index) for index in range(1, 5)]:
        never = {"recanalised_minutes": float("inf")}
        by_time = [_core_ml(case, **never, mri_hours=hours) for hours in (0.5, 2.0, 6.0, 48.0)]
        by_collaterals = [_core_ml(case, **never, mri_hours=6.0, collaterals=c) for c in (0.9, 0.5, 0.1)]
        by_reperfusion = [_core_ml(case, mri_hours=48.0, recanalised_minutes=m) for m in (30.0, 120.0, 600.0)]
        for volumes in (by_time, by_collaterals, by_reperfusion):
            assert volumes == sorted(volumes)
            assert volumes[0] < volumes[-1]


def test_the_core_grows_between_ct_and_mri() -> None:
    for case in [simulated(CASE_SETTINGS, index) for index in range(1, 5)]:
        lesion = case.truth.lesion
        assert not (lesion.core_at_ct > 0.5)[lesion.core <= 0.5].any()
        assert (lesion.core > 0.5).sum() >= (lesion.core_at_ct > 0.5).sum()
    late = simulated(CASE_SETTINGS._replace(mix=replace(ONLY, mri="follow-up")), 1).truth
    assert (late.lesion.core > 0.5).sum() > (late.lesion.core_at_ct > 0.5).sum()


def test_tissue_dies_where_flow_and_tolerance_are_below_the_lethal_flow() -> None:
    """The closed form: without tolerance and with the lethal flow known, the core is a threshold of flow."""
    case = simulated(CASE_SETTINGS, 1)
    patient, head = replace(case.truth.patient, recanalised_minutes=float("inf"), frailty=0.0), case.truth.head
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesions, "TOLERANCE", 0.0)
        patch.setattr(lesions, "WHITE_TOLERANCE", 0.0)
        lesion = draw_lesion(draw_streams(CASE_SETTINGS, 1).lesion, patient, head)
    lethal = LETHAL_FLOW * (1 - np.exp(-60 * patient.mri_hours / LETHAL_MINUTES))
    reach = np.minimum(head.territory[patient.territory], head.side if patient.side == "right" else -head.side)
    at_risk = (head.tissue > 0.7) & (reach > 0)
    np.testing.assert_array_equal(lesion.core > 0.5, at_risk & (lesion.occluded_flow < lethal))


def test_the_deficit_has_its_volume_and_holds_the_core() -> None:
    for index in range(1, 7):
        truth = simulated(CASE_SETTINGS, index).truth
        flow, tissue = truth.lesion.occluded_flow, truth.head.tissue > 0.7
        deficit = tissue & (flow < EDGE_FLOW)
        side = truth.head.side if truth.patient.side == "right" else -truth.head.side
        room = (tissue & (np.minimum(truth.head.territory[truth.patient.territory], side) > 0)).sum()
        most = min(truth.patient.low_flow_ml / truth.patient.grid.voxel_ml, room)
        assert 0.6 * most < deficit.sum() < 1.3 * most
        core = truth.lesion.core > 0.5
        if core.sum() > 50:
            assert (core & deficit).sum() > 0.85 * core.sum()
            assert 0.02 < np.median(flow[core]) < 0.45


def test_low_flow_without_infarct() -> None:
    truth = _first(replace(ONLY, hypoperfusion=1)).truth
    assert not (truth.lesion.core > 0.5).any()
    low = (truth.lesion.relative_flow < 0.7) & (truth.head.tissue > 0.7)
    assert low.sum() * truth.patient.grid.voxel_ml > 10


def test_a_grid_that_holds_no_territory_is_refused_with_the_reason() -> None:
    case = simulated(CASE_SETTINGS, 1)
    bare = replace(case.truth.head, grey=0 * case.truth.head.grey, white=0 * case.truth.head.white)
    with pytest.raises(ValueError, match=r"sub-stroke0001: the grid of .* holds 0 voxels of tissue on the .* too few"):
        draw_lesion(case.rng.lesion, case.truth.patient, bare)


def test_a_reperfused_core_has_its_flow_again_and_its_oedema_still() -> None:
    case = _first(
        replace(ONLY, reperfused=1), lambda t: (t.lesion.core > 0.5).sum() > 500 and t.patient.onset_minutes > 120
    )
    truth, core = case.truth, case.truth.lesion.core > 0.5
    assert core.any()
    assert truth.lesion.occluded_flow[core].mean() < 0.6
    assert truth.lesion.relative_flow[core].min() > 0.85
    assert ct.water_uptake(truth.patient, truth.lesion)[core].mean() > 0.2


@pytest.mark.parametrize("kind", ["lacune", "emboli"])
def test_small_infarcts_have_their_volume_within_a_deficit_of_their_own(kind: str) -> None:
    case = _first(replace(ONLY, **{kind: 1}), lambda t: t.patient.core_ml > 0.5)
    truth, core = case.truth, case.truth.lesion.core > 0.5
    assert core.sum() * truth.patient.grid.voxel_ml == pytest.approx(
        truth.patient.core_ml, abs=truth.patient.grid.voxel_ml
    )
    assert (truth.head.tissue[core] > 0.7).all()
    assert np.median(truth.lesion.relative_flow[core]) < 0.75
    far = truth.head.tissue > 0.7
    assert np.median(truth.lesion.relative_flow[far]) == pytest.approx(1, abs=0.01)


def test_early_mri_is_made_when_isles18_made_it_and_follow_up_days_later() -> None:
    minutes = [60 * p.mri_hours - p.onset_minutes for p in _patients(Mix(), 2000)]
    assert np.percentile(minutes, [25, 50, 75]) == pytest.approx([25, 36, 79], rel=0.12)
    days = [p.mri_hours / 24 - p.onset_minutes / 1440 for p in _patients(Mix(mri="follow-up"))]
    assert min(days) >= 2
    assert max(days) <= 9


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
    truth = _first(ONLY, lambda t: (t.lesion.core > 0.5).sum() * t.patient.grid.voxel_ml > 20).truth
    return truth, lambda: draw_streams(CASE_SETTINGS, truth.patient.index)


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
    with pytest.raises(ValueError, match=r"found .*expected"):
        changed(Mix(), shares)


def test_shares_of_a_mix_are_changed_by_name() -> None:
    assert changed(PRESETS["stress"].mix, {"lesion_free": 0.4}) == replace(PRESETS["stress"].mix, lesion_free=0.4)
    with pytest.raises(ValueError, match=r"found lesionfree, old, expected emboli, lacune, .*mri$"):
        changed(Mix(), {"lesionfree": 0.4, "old": 1, "late": 0.2})
    with pytest.raises(ValueError, match=r"mix\.mri: found 'soon', expected one of early, follow-up"):
        changed(Mix(), {"mri": "soon"})
