"""Every column that is measured has a name, and the primary ones are as agreed."""

from dataclasses import replace

import numpy as np
import pytest

from ctp_ldm.metrics import METRICS, Metric, UnknownMetric, describe, evaluate_patient
from metrics.brains import SPANS, real_image, volumes


def test_every_column_of_a_patient_is_described() -> None:
    patient = replace(volumes(real_image()), deviation=np.ones_like(real_image()), penumbra=volumes(real_image()).brain)
    columns = [*evaluate_patient(patient, SPANS), "lesion_voxels", "lesion_ml"]
    titles = {describe(column).title for column in columns}
    assert len(titles) == len(columns)
    used = {c.replace("_dwi", "_{channel}").replace("_adc", "_{channel}") if c not in METRICS else c for c in columns}
    assert used == set(METRICS)


def test_the_primary_metrics() -> None:
    assert [name for name, metric in METRICS.items() if metric.primary] == ["lesion_dice", "false_ml"]
    assert describe("lesion_dice").better == "higher"
    assert describe("false_ml").better == "lower"


def test_a_channel_brings_its_name_unit_and_decimals() -> None:
    assert describe("brain_mae_dwi") == Metric("MAE in the brain, DWI", "relative", "lower", 3, False, "dwi")
    assert describe("lesion_bias_adc") == Metric("Bias in the lesion, ADC", "10⁻⁶ mm²/s", "zero", 1, False, "adc")
    assert describe("psnr_adc") == Metric("PSNR, ADC", "dB", "higher", 2, False, "adc")
    assert describe("ms_ssim_dwi").title == "MS-SSIM, DWI"
    assert describe("ssim_dwi").title == "SSIM, DWI"


def test_other_channels_go_by_their_own_name() -> None:
    metric = describe("rim_mae_flair_2", {"flair_2": "a.u."})
    assert (metric.title, metric.unit, metric.channel) == ("MAE in the 10 mm rim, flair_2", "a.u.", "flair_2")
    assert describe("rim_mae_flair_2").unit == ""
    assert describe("rim_mae_adc", {"adc": "mm²/s"}).unit == "mm²/s"


def test_names_without_channel_are_no_channels() -> None:
    assert describe("ms_ssim_scales").channel is None
    assert describe("dwi_ratio_real").channel is None
    assert describe("ap_dwi_real").channel == "dwi"


@pytest.mark.parametrize("column", ["brain_mae_", "sharpness", "dice_of_something", ""])
def test_an_unknown_column_is_refused(column: str) -> None:
    with pytest.raises(UnknownMetric, match="no metric is called"):
        describe(column)
