"""Average precision and contrast-to-noise by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ctp_ldm.metrics import PatientVolumes, contrast_metrics

DWI = [[3.0, 1.5, 2.0, 1.0], [0.8, 1.2, 9.0, 1.0]]
ADC = [[400.0, 700.0, 500.0, 800.0], [750.0, 850.0, 3000.0, 800.0]]


def patient(dwi: list[list[float]] = DWI, adc: list[list[float]] = ADC) -> PatientVolumes:
    """Two rows of four voxels, left and right; two of lesion on the left, fluid opposite the third.

    The real image is the given one, the synthetic one has the sides exchanged.
    """
    real = np.array([dwi, adc], dtype=np.float32)[None]
    lesion = np.zeros((1, 2, 4), bool)
    lesion[0, 0, [0, 2]] = True
    brain = np.ones((1, 2, 4), bool)
    return PatientVolumes(
        "a", (5.0, 2.0, 2.0), ("dwi", "adc"), ("", ""), real[:, :, ::-1].copy(), real, brain, lesion=lesion
    )


def test_average_precision_by_hand() -> None:
    """Mean over the lesion's voxels of the share of lesion among those that are at least as high."""
    row = contrast_metrics(patient())
    assert row["ap_dwi_real"] == row["ap_adc_real"] == 1
    # Synthetic DWI of the seven voxels of tissue: the lesion's are 0.8 and 9; others 1.2, 1, 3, 1.5, 1.
    assert row["ap_dwi"] == pytest.approx((1 / 1 + 2 / 7) / 2)
    # Synthetic ADC: the lesion's are 750 and 3000; others 850, 800, 400, 700, 800, so ranks 3 and 7.
    assert row["ap_adc"] == pytest.approx((1 / 3 + 2 / 7) / 2)


def test_contrast_to_noise_by_hand() -> None:
    """The mirror site of the lesion is 0.8 and fluid of ADC 3000, which is left out; where it is not, 0.8 and 9."""
    tissue = replace(patient(), real=patient(adc=[ADC[0], [750.0, 850.0, 850.0, 800.0]]).real)
    row = contrast_metrics(tissue)
    assert row["cnr_dwi_real"] == pytest.approx((2.5 - 4.9) / 4.1, rel=1e-6)
    assert row["cnr_adc_real"] == pytest.approx((450 - 800) / 50)
    assert row["cnr_dwi"] == pytest.approx((4.9 - 2.5) / 0.5, rel=1e-6)
    assert math.isnan(contrast_metrics(patient())["cnr_dwi_real"]), "a site of one voxel has no noise"


@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3])
def test_a_blank_image_has_no_contrast_and_the_precision_of_chance(value: float) -> None:
    """0.1 and the like have a mean that is not quite themselves."""
    blank = replace(patient(), synthetic=np.full((1, 2, 2, 4), value, np.float32))
    row = contrast_metrics(blank)
    assert (row["cnr_dwi"], row["cnr_adc"]) == (0, 0)
    assert row["ap_dwi"] == row["ap_adc"] == pytest.approx(2 / 7)


def test_without_lesion_or_mirror_site_there_is_nothing_to_measure() -> None:
    for lesion in (None, np.zeros((1, 2, 4), bool)):
        assert all(math.isnan(value) for value in contrast_metrics(replace(patient(), lesion=lesion)).values())
    both = np.zeros((1, 2, 4), bool)
    both[0, :, 0] = True
    row = contrast_metrics(replace(patient(), lesion=both))
    assert math.isnan(row["cnr_dwi"])
    assert row["ap_dwi_real"] > 0


def test_a_lesion_in_fluid_alone_is_in_no_tissue() -> None:
    row = contrast_metrics(patient(adc=[[2000.0] * 4, [800.0] * 4]))
    assert all(math.isnan(value) for value in row.values())


def test_only_dwi_and_adc_have_a_lesions_side_and_without_adc_tissue_is_the_brain() -> None:
    row = contrast_metrics(replace(patient(), targets=("dwi", "flair")))
    assert list(row) == ["ap_dwi", "cnr_dwi", "ap_dwi_real", "cnr_dwi_real"]
    assert row["ap_dwi_real"] == pytest.approx((1 / 2 + 2 / 3) / 2), "fluid of 9 comes first"
