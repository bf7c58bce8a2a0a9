"""A patient's row: which columns there are, and that better images score better."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ctp_ldm.metrics import evaluate_patient, image_metrics, lesion_metrics
from metrics.brains import BRAIN, FAULTS, LESION, SPANS, real_image, volumes, without_segmenter

REAL = real_image()
Rows = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return {fault: evaluate_patient(volumes(change(REAL)), SPANS) for fault, change in FAULTS.items()}


def ranked(rows: Rows, column: str) -> list[str]:
    return sorted(rows, key=lambda fault: rows[fault][column])


def test_a_perfect_image_is_the_best_of_all(rows: Rows) -> None:
    for column in ("brain_mae_dwi", "brain_mae_adc", "absolute_volume_error_ml", "hd95_mm", "hallucinated_ml"):
        values = {fault: row[column] for fault, row in rows.items() if not math.isnan(row[column])}
        assert min(values, key=lambda fault: values[fault]) == "perfect", column
    for column in ("psnr_dwi", "ssim_adc", "ms_ssim_dwi", "dice", "lesion_f1", "adc620_dice"):
        assert max(row[column] for row in rows.values()) == rows["perfect"][column], column
    assert rows["perfect"]["dice"] == rows["perfect"]["dice_real"] > 0.98


def test_an_erased_lesion_is_hardly_seen_in_the_brain_and_plainly_in_the_lesion(rows: Rows) -> None:
    assert rows["erased"]["brain_mae_dwi"] < rows["shifted"]["brain_mae_dwi"]
    assert rows["erased"]["ssim_dwi"] > rows["blurred"]["ssim_dwi"]
    assert ranked(rows, "lesion_mae_dwi")[-1] == "erased"
    assert rows["erased"]["dice"] == rows["erased"]["detected"] == rows["erased"]["hallucinated_ml"] == 0
    assert rows["erased"]["lesion_bias_dwi"] < -1 < 0 < rows["erased"]["lesion_bias_adc"]
    assert rows["erased"]["dwi_ratio_error"] < -1


def test_painting_wins_in_lesion_mae_and_loses_where_it_matters(rows: Rows) -> None:
    painted, blurred = rows["painted"], rows["blurred"]
    assert painted["lesion_mae_dwi"] == painted["lesion_mae_adc"] == 0 < blurred["lesion_mae_dwi"]
    assert painted["dice"] < blurred["dice"]
    assert ranked(rows, "hallucinated_ml")[-1] == ranked(rows, "hallucinated_rim_ml")[-1] == "painted"
    assert ranked(rows, "rim_mae_dwi")[-1] == ranked(rows, "volume_error_ml")[-1] == "painted"
    assert painted["hallucinated_ml"] > 5


def test_a_shift_is_worse_than_a_blur(rows: Rows) -> None:
    for column in ("dice", "psnr_dwi", "ssim_dwi", "ms_ssim_adc"):
        assert rows["shifted"][column] < rows["blurred"][column], column
    assert rows["shifted"]["hd95_mm"] == pytest.approx(6.5, abs=1)  # of 7.5: some of the surface moves along itself


def test_columns_come_in_one_order_whatever_the_patient(rows: Rows) -> None:
    nothing = np.zeros_like(LESION)
    free = evaluate_patient(volumes(real_image(lesion=nothing), lesion=nothing), SPANS)
    unknown = evaluate_patient(replace(volumes(REAL), lesion=None), SPANS)
    assert list(free) == list(unknown) == list(rows["perfect"]) == list(rows["erased"])


def test_a_row_is_put_together_from_its_parts() -> None:
    patient = replace(volumes(FAULTS["shifted"](REAL)), penumbra=BRAIN)
    row = evaluate_patient(patient, SPANS)
    assert patient.found is not None
    assert patient.found_real is not None
    images = image_metrics(patient, SPANS)
    lesions = lesion_metrics(patient.found, LESION, BRAIN, patient.spacing, BRAIN)
    ceiling = lesion_metrics(patient.found_real, LESION, BRAIN, patient.spacing)
    real = {"dice_real": ceiling["dice"], "found_real_ml": ceiling["found_ml"]}
    assert row == pytest.approx({**images, **lesions, **real}, nan_ok=True)
    assert row["hallucinated_penumbra_ml"] == row["hallucinated_ml"] > 0


def test_without_segmenter_there_are_no_lesion_columns() -> None:
    patient = without_segmenter(volumes(REAL))
    assert list(evaluate_patient(patient, SPANS)) == list(image_metrics(patient, SPANS))
    only_real = evaluate_patient(replace(volumes(REAL), found=None), SPANS)
    assert "dice_real" in only_real
    assert "dice" not in only_real


def test_a_deviation_adds_its_columns() -> None:
    row = evaluate_patient(replace(volumes(REAL), deviation=np.ones_like(REAL)), SPANS)
    assert row["uncertainty_coverage_dwi"] == 1


def test_a_patient_without_reference_is_not_one_without_lesion() -> None:
    row = evaluate_patient(replace(volumes(REAL), lesion=None), SPANS)
    columns = [*lesion_metrics(LESION, LESION, BRAIN, (1.0, 1.0, 1.0)), "dice_real", "found_real_ml"]
    defined = {column: row[column] for column in columns if not math.isnan(row[column])}
    assert defined.keys() == {"found_ml", "found_real_ml"}
    assert defined["found_ml"] > 10
