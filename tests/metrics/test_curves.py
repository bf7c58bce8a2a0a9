"""Operating curves against closed forms and against thresholding by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from ctp_ldm.metrics.curves import (
    COLUMNS,
    CUTOFFS,
    CurvesError,
    OperatingCurve,
    average_curves,
    choose_cutoff,
    count_above,
)


def table(case: str, scores: np.ndarray, lesion: np.ndarray, voxel_ml: float = 1.0) -> pd.DataFrame:
    """By thresholding at every cut-off."""
    rows = [
        (case, c, (scores > c).sum() * voxel_ml, ((scores > c) & lesion).sum() * voxel_ml, lesion.sum() * voxel_ml)
        for c in CUTOFFS
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def curve(*patients: tuple[np.ndarray, np.ndarray], voxel_ml: float = 1.0) -> OperatingCurve:
    return OperatingCurve.from_table(
        pd.concat([table(f"c{i}", scores, lesion, voxel_ml) for i, (scores, lesion) in enumerate(patients)])
    )


def region(lesion: int, brain: int) -> np.ndarray:
    return np.arange(brain) < lesion


def test_the_histogram_counts_what_thresholding_finds() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(3, 1, 20, 30, generator=generator)
    scores[0, 0, :5] = torch.tensor(CUTOFFS)[torch.arange(30) * 3]  # a score at a cut-off is not above it
    scores[1, 0, 0], scores[2, 0, 0] = 0.0, 1.0
    mask = torch.rand(3, 1, 20, 30, generator=generator) > 0.4
    found = count_above(scores, mask, CUTOFFS)
    expected = torch.stack([((scores > c) & mask).flatten(1).sum(1) for c in CUTOFFS], dim=1)
    assert torch.equal(found, expected)
    assert not count_above(scores, torch.zeros_like(mask), CUTOFFS).any()


def test_a_perfect_map_finds_all_before_anything_false() -> None:
    lesion = region(30, 100)
    perfect = curve((lesion * 0.8, lesion))
    assert perfect.mean_area() == pytest.approx(1)
    assert perfect.sensitivity(0.0).mean == 1
    assert perfect.detection(0.0).mean == 1


def test_a_constant_map_is_on_the_line_of_chance() -> None:
    """From nothing to everything at one cut-off: 30 mL of lesion and 40 mL beside it; half of each at 20 mL."""
    constant = curve((np.full(70, 0.37), region(30, 70)))
    assert constant.sensitivity(20.0).mean == pytest.approx(0.5)
    assert constant.sensitivity(10.0).mean == pytest.approx(0.25)
    assert constant.mean_area(20.0) == pytest.approx(0.25)
    assert constant.sensitivity(400.0).mean == 1


def test_a_random_map_is_near_the_line_of_chance() -> None:
    rng = np.random.default_rng(0)
    chance = curve((rng.uniform(size=400_000), region(100_000, 400_000)), voxel_ml=1e-4)
    for at_ml in (3.0, 10.0, 20.0):
        assert chance.sensitivity(at_ml).mean == pytest.approx(at_ml / 30, abs=0.01)


def test_beyond_the_laxest_cutoff_no_more_is_found() -> None:
    """Half of the lesion has score 0 and is never found; 5 mL beside it have a low one."""
    scores = np.concatenate([np.full(10, 0.9), np.zeros(10), np.full(5, 0.02), np.zeros(50)])
    low = curve((scores, region(20, 75)))
    assert low.sensitivity(0.0).mean == 0.5
    assert low.sensitivity(1000.0).mean == 0.5
    assert low.mean_area() == pytest.approx(0.5)


def several(seed: int, gain: float = 2.0) -> OperatingCurve:
    """Eight patients, of whom the last has no lesion."""
    rng = np.random.default_rng(seed)
    patients = []
    for size in (5, 8, 12, 20, 30, 40, 60, 0):
        lesion = region(size, 300)
        patients.append((1 / (1 + np.exp(-rng.normal(size=300) - gain * lesion + 1)), lesion))
    return curve(*patients)


def test_curves_rise_from_strict_to_lax() -> None:
    made = several(0)
    assert (np.diff(made.cutoffs) < 0).all()
    assert (np.diff(made.mean_false_ml) >= 0).all()
    assert (np.diff(made.mean_found_share) >= 0).all()
    at = np.linspace(0, 50, 40)
    mean, low, high = made.band(at)
    assert (np.diff(mean) >= 0).all()
    assert (low <= mean).all()
    assert (mean <= high).all()
    np.testing.assert_allclose(
        made.area(20.0).mean, np.trapezoid(made.band(np.linspace(0, 20, 4001))[0]) / 4000, atol=1e-4
    )


def test_means_are_over_patients_and_those_with_lesion() -> None:
    """By hand at one cut-off: 1 of 4 and 2 of 2 found, and 3, 0 and 2 mL false; no lesion has 10 mL."""
    one = np.array([0.9, 0, 0, 0, 0.9, 0.9, 0.9])
    two = np.array([0.9, 0.9, 0, 0, 0, 0, 0])
    three = np.array([0.9, 0.9, 0, 0, 0, 0, 0])
    made = curve((one, region(4, 7)), (two, region(2, 7)), (three, region(0, 7)))
    place = int(np.flatnonzero(made.cutoffs == 0.5)[0])
    assert made.mean_false_ml[place] == pytest.approx(5 / 3)
    assert made.mean_found_share[place] == pytest.approx((0.25 + 1) / 2)
    assert made.sensitivity().patients == 2
    assert made.detection().patients == 0
    assert math.isnan(made.detection().mean)


def test_detection_needs_a_fifth_of_a_large_lesion() -> None:
    scores = np.where(np.arange(40) < 3, 0.9, 0.0)
    made = curve((scores, region(15, 40)), (scores, region(16, 40)), (scores, region(9, 40)))
    assert made.detection().mean == pytest.approx(0.5)
    assert made.detection().patients == 2


def test_the_interval_holds_the_mean_and_pairs_have_a_narrower_one() -> None:
    weak, strong = several(0, 1.5), several(0, 2.0)
    area, change = weak.area(), strong.area_above(weak)
    assert area.low < area.mean < area.high
    assert change.mean == pytest.approx(strong.area().mean - area.mean)
    assert change.low > 0, "the same patients and noise, more contrast"
    assert change.high - change.low < area.high - area.low
    same = weak.sensitivity_above(weak)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_one_patient_and_nobody_with_lesion_have_no_interval() -> None:
    lesion = region(30, 100)
    alone = curve((lesion * 0.8, lesion)).area()
    assert alone.mean == 1
    assert math.isnan(alone.low)
    free = curve((np.full(9, 0.5), region(0, 9)), (np.full(9, 0.5), region(0, 9)))
    assert math.isnan(free.area().mean)
    assert math.isnan(free.sensitivity().low)


def test_the_chosen_cutoff_gives_the_wanted_false_volume() -> None:
    """Scores 0.005, 0.015, … of 100 voxels without lesion: above the cut-off c lie 100 (1 − c) of them."""
    ramp = (np.arange(100) + 0.5) / 100
    free = np.zeros(100, bool)
    chosen = choose_cutoff(curve((ramp, free), (ramp, free)), 10.0)
    assert chosen.cutoff == pytest.approx(0.9)
    assert chosen.false_ml == pytest.approx(10)
    # A second patient in whom nothing is found halves the mean.
    chosen = choose_cutoff(curve((ramp, free), (np.zeros(100), free)), 10.0)
    assert chosen.cutoff == pytest.approx(0.8)
    assert chosen.false_ml == pytest.approx(10)


def test_never_more_than_wanted_unless_the_strictest_gives_more() -> None:
    steps = curve((np.repeat([0.3, 0.6], 30), np.zeros(60, bool)))
    assert choose_cutoff(steps, 40.0).cutoff == pytest.approx(0.3)
    assert choose_cutoff(steps, 40.0).false_ml == 30
    assert choose_cutoff(steps, 100.0).cutoff == min(CUTOFFS)
    sure = choose_cutoff(curve((np.ones(60), np.zeros(60, bool))), 10.0)
    assert sure.cutoff == max(CUTOFFS)
    assert sure.false_ml == 60


def test_seeds_are_averaged_at_their_common_cutoffs() -> None:
    one, other = several(1), several(2)
    wider = OperatingCurve.from_table(
        pd.concat(
            [
                table("c0", np.ones(20), region(12, 20)),
                table("c0", np.ones(20), region(12, 20)).assign(cutoff=lambda t: t["cutoff"] + 1e-5),
            ]
        )
    )
    assert len(average_curves([wider, curve((np.ones(20), region(12, 20)))]).cutoffs) == len(CUTOFFS)
    both = average_curves([one, other])
    np.testing.assert_allclose(both.mean_false_ml, (one.mean_false_ml + other.mean_false_ml) / 2)
    np.testing.assert_allclose(both.mean_found_share, (one.mean_found_share + other.mean_found_share) / 2)
    with pytest.raises(CurvesError, match=r"curves of \[8, 1\] patients"):
        average_curves([one, wider])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="shared_ml"), "columns shared_ml are missing"),
        (lambda t: t.iloc[1:], "all have the same cut-offs"),
        (lambda t: t.iloc[:0], "all have the same cut-offs"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "a cut-off twice"),
    ],
)
def test_what_is_no_table_of_curves_is_refused(spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    good = pd.concat([table(case, np.ones(5), region(2, 5)) for case in ("a", "b")], ignore_index=True)
    with pytest.raises(CurvesError, match=message):
        OperatingCurve.from_table(spoil(good))
