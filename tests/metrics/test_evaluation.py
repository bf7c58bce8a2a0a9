"""A patient's row: which columns there are, and what they are made of."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ctp_ldm.metrics import contrast_metrics, evaluate_patient, image_metrics, lesion_metrics
from metrics.brains import BRAIN, FAULTS, LESION, SPANS, real_image, volumes, without_segmenter

REAL = real_image()
CEILINGS = ("lesion_dice_real", "false_real_ml", "found_real_ml", "dice_real")


def test_a_row_is_put_together_from_its_parts() -> None:
    patient = replace(volumes(FAULTS["shifted"](REAL)), penumbra=BRAIN)
    row = evaluate_patient(patient, SPANS)
    assert patient.found is not None
    assert patient.found_real is not None
    images = {**contrast_metrics(patient), **image_metrics(patient, SPANS)}
    lesions = lesion_metrics(patient.found, LESION, BRAIN, patient.spacing, BRAIN)
    ceiling = lesion_metrics(patient.found_real, LESION, BRAIN, patient.spacing)
    names = {"lesion_dice_real": "lesion_dice", "false_real_ml": "false_ml"}
    names |= {"found_real_ml": "found_ml", "dice_real": "dice"}
    real = {name: ceiling[column] for name, column in names.items()}
    assert row == pytest.approx({**lesions, **real, **images}, nan_ok=True)
    assert list(row) == [*lesions, *real, *images]
    assert row["false_penumbra_ml"] == row["false_ml"] > 0


def test_without_segmenter_there_are_no_lesion_columns() -> None:
    patient = without_segmenter(volumes(REAL))
    assert list(evaluate_patient(patient, SPANS)) == [*contrast_metrics(patient), *image_metrics(patient, SPANS)]
    only_real = evaluate_patient(replace(volumes(REAL), found=None), SPANS)
    assert [column for column in only_real if column in CEILINGS] == list(CEILINGS)
    assert "dice" not in only_real


def test_the_ceiling_of_a_patient_without_lesion() -> None:
    nothing = np.zeros_like(LESION)
    row = evaluate_patient(replace(volumes(REAL, lesion=nothing), found_real=LESION), SPANS)
    assert math.isnan(row["lesion_dice_real"])
    assert row["dice_real"] == 0
    assert row["false_real_ml"] == row["found_real_ml"] == pytest.approx(LESION.sum() * 0.03)


def test_a_deviation_adds_its_columns() -> None:
    row = evaluate_patient(replace(volumes(REAL), deviation=np.ones_like(REAL)), SPANS)
    assert row["uncertainty_coverage_dwi"] == 1


def test_a_patient_without_reference_is_not_one_without_lesion() -> None:
    row = evaluate_patient(replace(volumes(REAL), lesion=None), SPANS)
    columns = [*lesion_metrics(LESION, LESION, BRAIN, (1.0, 1.0, 1.0)), *CEILINGS]
    defined = {column: row[column] for column in columns if not math.isnan(row[column])}
    assert defined.keys() == {"found_ml", "found_real_ml"}
    assert defined["found_ml"] > 10
