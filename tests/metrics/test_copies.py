"""Copies of one image with known faults: in which order every figure puts them, and that a blank one never wins."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ctp_ldm.metrics import describe, evaluate_patient
from metrics.brains import BRAIN, FAULTS, LESION, SPANS, blank, goodness, judged, order, painted, real_image, volumes

REAL = real_image()
NOTHING = np.zeros_like(LESION)
Rows = dict[str, dict[str, float]]

# From good to bad; a copy that is not named has NaN. "blank" is the brain's median everywhere in it.
ORDERS = {
    # What a segmenter finds: painting costs precision, erasing costs the lesion.
    "lesion_dice": "perfect > blurred > shifted > painted > erased = blank",
    "sensitivity": "perfect = painted > blurred > shifted > erased = blank",
    "precision": "perfect = blurred > shifted > painted > erased = blank",
    "detected": "perfect = blurred = shifted = painted > erased = blank",
    "detected_10ml": "perfect = blurred = shifted = painted > erased = blank",
    "hd95_mm": "perfect > blurred > shifted > painted > erased = blank",
    "lesion_f1": "perfect = blurred = shifted > erased = painted = blank",
    "lesion_f1_overlap": "perfect = blurred = shifted = painted > erased = blank",
    "lesion_count_difference": "perfect = blurred = shifted = painted > erased = blank",
    # Where nothing is found nothing is false: only a tie with the perfect image.
    "false_ml": "perfect = blurred = erased = blank > shifted > painted",
    "false_near_ml": "perfect = blurred = erased = blank > shifted > painted",
    "false_far_ml": "perfect = blurred = shifted = erased = blank > painted",
    "false_mirror_ml": "perfect = blurred = shifted = erased = painted = blank",
    # Volumes do not know places: the shifted lesion is as large as the real one, of 11.7 mL.
    "volume_error_ml": "perfect = shifted > blurred > erased = blank > painted",
    "absolute_volume_error_ml": "perfect = shifted > blurred > erased = blank > painted",
    "crosses_25": "perfect = blurred = shifted = erased = blank > painted",
    "crosses_70": "perfect = blurred = shifted = erased = painted = blank",
    # Without a segmenter; blurring draws the dark outside into the brain's edge, which is then low in ADC.
    "ap_dwi": "perfect > blurred > painted > shifted > blank > erased",
    "ap_adc": "perfect > painted > blurred > shifted > blank > erased",
    "dwi_ratio_error": "perfect = painted > shifted > blurred > erased = blank",
    "adc620_dice": "perfect > blurred > painted > shifted > erased = blank",
    "adc620_ml_error": "perfect > erased = blank > shifted > blurred > painted",
    # In the lesion painting is perfect, around it and in other tissue erasing is: neither figure stands alone.
    **{f"lesion_{of}_{c}": "perfect = painted > blurred > shifted > blank > erased"
       for of in ("mae", "bias") for c in ("dwi", "adc")},
    **{f"rim_mae_{c}": "perfect = erased > blank > blurred > shifted > painted" for c in ("dwi", "adc")},
    "tissue_mae_dwi": "perfect = erased > blank > blurred > shifted > painted",
    "tissue_mae_adc": "perfect = erased > blank > painted > blurred > shifted",
    # Over the whole brain a blank image beats an image shifted by three voxels, and an erased lesion is hardly seen.
    "brain_mae_dwi": "perfect > erased > blurred > blank > painted > shifted",
    "brain_mae_adc": "perfect > erased > blank > painted > blurred > shifted",
    "psnr_dwi": "perfect > blurred > erased > blank > shifted > painted",
    "psnr_adc": "perfect > erased > blank > blurred > painted > shifted",
    "ssim_dwi": "perfect > erased > blurred > blank > painted > shifted",
    "ssim_adc": "perfect > erased > blurred > blank > painted > shifted",
    "ms_ssim_dwi": "perfect > blurred > erased > blank > shifted > painted",
    "ms_ssim_adc": "perfect > blurred > erased > blank > painted > shifted",
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> Rows:
    return {fault: evaluate_patient(volumes(change(REAL)), SPANS) for fault, change in FAULTS.items()}


@pytest.fixture(scope="module")
def free() -> Rows:
    """The same of a patient without lesion; what is painted lies around where the lesion was."""
    real = real_image(lesion=NOTHING)
    copies = {"perfect": real, "painted": painted(real), "blank": blank(real)}
    return {name: evaluate_patient(volumes(copy, lesion=NOTHING), SPANS) for name, copy in copies.items()}


def test_every_figure_has_its_order(rows: Rows) -> None:
    assert {column: order(rows, column) for column in judged(rows)} == ORDERS


def test_a_blank_image_is_never_better_than_the_perfect_one(rows: Rows, free: Rows) -> None:
    for copies in (rows, free):
        for column in judged(copies):
            one, other = (goodness(column, copies[name][column]) for name in ("blank", "perfect"))
            assert math.isnan(one) or one <= other + 1e-9, column
    assert rows["blank"]["lesion_dice"] == rows["blank"]["sensitivity"] == rows["blank"]["detected"] == 0
    assert rows["blank"]["cnr_dwi"] == rows["blank"]["cnr_adc"] == 0


def test_a_blank_image_ties_with_the_perfect_one_only_where_nothing_found_is_enough(rows: Rows, free: Rows) -> None:
    ties = {c for c in judged(rows) if rows["blank"][c] == rows["perfect"][c]}
    places = {f"false_{place}ml" for place in ("", "near_", "far_", "mirror_")}
    assert ties == places | {"crosses_25", "crosses_70"}, "a lesion below both thresholds"
    assert not describe("dice").better, "over all patients, Dice rewards who finds nothing"
    assert free["blank"]["dice"] == free["perfect"]["dice"] == 1


def test_average_precision_of_a_blank_image_is_the_lesions_share_of_the_tissue(rows: Rows) -> None:
    share = LESION.sum() / BRAIN.sum()
    assert rows["blank"]["ap_dwi"] == rows["blank"]["ap_adc"] == pytest.approx(share)
    assert rows["perfect"]["ap_dwi"] == rows["perfect"]["ap_dwi_real"] == pytest.approx(1, abs=1e-3)


def test_contrast_to_noise_is_described_beside_that_of_the_real_image(rows: Rows) -> None:
    """A blurred image has more of it than the real one: it is no figure to win."""
    for channel, sign in (("dwi", 1), ("adc", -1)):
        value = {name: sign * row[f"cnr_{channel}"] for name, row in rows.items()}
        assert value["blurred"] > value["perfect"] == value["painted"] > value["shifted"] > 5
        assert abs(value["erased"]) < 1e-6
        assert value["perfect"] == sign * rows["blank"][f"cnr_{channel}_real"]
        assert describe(f"cnr_{channel}").better is None


def test_false_lesion_of_a_lesion_free_patient(free: Rows) -> None:
    for column in ("false_ml", "false_free_ml", "any_false_free"):
        assert order(free, column) == "perfect = blank > painted"
    assert free["painted"]["any_false_free"] == 1
    assert free["painted"]["tissue_mae_dwi"] > 0.2
    undefined = ("lesion_dice", "sensitivity", "detected", "false_near_ml", "ap_dwi", "cnr_adc", "lesion_bias_dwi")
    assert all(math.isnan(row[column]) for row in free.values() for column in undefined)


def test_the_distance_of_a_shift_is_found_again(rows: Rows) -> None:
    assert rows["shifted"]["hd95_mm"] == pytest.approx(6.5, abs=1)  # of 7.5: some of the surface moves along itself
    assert rows["perfect"]["lesion_dice"] == rows["perfect"]["lesion_dice_real"] > 0.98


def test_columns_come_in_one_order_whatever_the_patient(rows: Rows, free: Rows) -> None:
    unknown = evaluate_patient(replace(volumes(REAL), lesion=None), SPANS)
    assert list(free["perfect"]) == list(unknown) == list(rows["perfect"]) == list(rows["erased"])
    assert next(iter(unknown)) == "lesion_dice"
