"""What each column of the table of patients is called, measured in and better at."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal


class UnknownMetric(ValueError):
    """A column that no metric of the catalogue explains."""


@dataclass(frozen=True)
class Metric:
    """A column of the table of patients.

    title: for headings.
    unit: "" for numbers without one.
    better: where a good value is; None for what is described, not judged.
    decimals: to print.
    primary: the evaluation is decided by it.
    channel: the target it is of; None for metrics of the whole patient.
    beside_found: whoever finds less of the lesions, down to a blank image, can have the better value; `judgement` calls
        it better only where no less is found, or less with higher Dice.
    """

    title: str
    unit: str = ""
    better: Literal["higher", "lower", "zero"] | None = None
    decimals: int = 2
    primary: bool = False
    channel: str | None = None
    beside_found: bool = False


CHANNEL_UNIT = "{unit}"

# Pattern → metric. "{channel}" stands for a target's name, a unit of "{unit}" for that target's.
METRICS: dict[str, Metric] = {
    "lesion_dice": Metric("Dice in patients with lesion", better="higher", decimals=3, primary=True),
    "sensitivity": Metric("Sensitivity of volume", better="higher"),
    "precision": Metric("Precision of volume", better="higher", beside_found=True),
    "detected": Metric("Detected (20 % of the volume)", better="higher"),
    "detected_10ml": Metric("Detected, lesions of at least 10 mL", better="higher"),
    "false_ml": Metric("False lesion volume", "mL", "lower", primary=True, beside_found=True),
    "false_near_ml": Metric("False lesion volume, near (10 mm)", "mL", "lower", beside_found=True),
    "false_far_ml": Metric("False lesion volume, far", "mL", "lower", beside_found=True),
    "false_mirror_ml": Metric("False lesion volume, mirror region", "mL", "lower", beside_found=True),
    "false_penumbra_ml": Metric("False lesion volume, penumbra", "mL", "lower", beside_found=True),
    "false_free_ml": Metric("False lesion volume, lesion-free", "mL", "lower", beside_found=True),
    "any_false_free": Metric("Any false lesion, lesion-free", better="lower", beside_found=True),
    "hd95_mm": Metric("Hausdorff distance, 95 %", "mm", "lower", 1, beside_found=True),
    "reference_ml": Metric("Reference volume", "mL"),
    "found_ml": Metric("Volume found", "mL"),
    "shared_ml": Metric("Volume found inside the reference", "mL"),
    "volume_error_ml": Metric("Volume error", "mL", "zero"),
    "absolute_volume_error_ml": Metric("Absolute volume error", "mL", "lower", beside_found=True),
    "lesion_f1": Metric("Lesion-wise F1 (IoU ≥ 0.5)", better="higher", decimals=3),
    "lesion_f1_overlap": Metric("Lesion-wise F1 (any overlap)", better="higher", decimals=3),
    "lesion_count_difference": Metric("Lesion-count difference", better="lower", beside_found=True),
    "crosses_25": Metric("Crosses 25 mL", better="lower", beside_found=True),
    "crosses_70": Metric("Crosses 70 mL", better="lower", beside_found=True),
    "dice": Metric("Dice, 1 for nothing found where nothing is", decimals=3),
    "lesion_dice_real": Metric("Dice in patients with lesion, on the real image", decimals=3),
    "false_real_ml": Metric("False lesion volume, on the real image", "mL"),
    "found_real_ml": Metric("Volume found on the real image", "mL"),
    "dice_real": Metric("Dice on the real image, 1 for nothing found where nothing is", decimals=3),
    "ap_dwi": Metric("Average precision of bright DWI", better="higher", decimals=3, channel="dwi"),
    "ap_dwi_real": Metric("Average precision of bright DWI, real image", decimals=3, channel="dwi"),
    "cnr_dwi": Metric("Contrast-to-noise of the lesion, DWI", channel="dwi"),
    "cnr_dwi_real": Metric("Contrast-to-noise of the lesion, DWI, real image", channel="dwi"),
    "ap_adc": Metric("Average precision of low ADC", better="higher", decimals=3, channel="adc"),
    "ap_adc_real": Metric("Average precision of low ADC, real image", decimals=3, channel="adc"),
    "cnr_adc": Metric("Contrast-to-noise of the lesion, ADC", channel="adc"),
    "cnr_adc_real": Metric("Contrast-to-noise of the lesion, ADC, real image", channel="adc"),
    "brain_mae_{channel}": Metric("MAE in the brain", CHANNEL_UNIT, "lower"),
    "lesion_mae_{channel}": Metric("MAE in the lesion", CHANNEL_UNIT, "lower"),
    "lesion_bias_{channel}": Metric("Bias in the lesion", CHANNEL_UNIT, "zero"),
    "tissue_mae_{channel}": Metric("MAE in other tissue", CHANNEL_UNIT, "lower"),
    "rim_mae_{channel}": Metric("MAE in the 10 mm rim", CHANNEL_UNIT, "lower"),
    "psnr_{channel}": Metric("PSNR", "dB", "higher"),
    "ssim_{channel}": Metric("SSIM", better="higher", decimals=3),
    "ms_ssim_{channel}": Metric("MS-SSIM", better="higher", decimals=3),
    "ms_ssim_scales": Metric("Scales of MS-SSIM", decimals=0),
    "dwi_ratio_real": Metric("DWI lesion ratio, real"),
    "dwi_ratio_synthetic": Metric("DWI lesion ratio, synthetic"),
    "dwi_ratio_error": Metric("DWI lesion ratio, error", better="zero"),
    "adc620_dice": Metric("Dice of ADC ≤ 620", better="higher", decimals=3),
    "adc620_ml_error": Metric("Volume error of ADC ≤ 620", "mL", "zero"),
    "uncertainty_rank_{channel}": Metric("Rank correlation of uncertainty and error", better="higher"),
    "uncertainty_coverage_{channel}": Metric("Errors within 1.96 deviations (ideal 0.95)", decimals=3),
    "lesion_voxels": Metric("Lesion voxels", decimals=0),
    "lesion_ml": Metric("Lesion in the brain", "mL"),
}

# Channel → its title, its unit and the decimals that unit needs; others go by their own name.
CHANNELS: dict[str, tuple[str, str, int]] = {"dwi": ("DWI", "relative", 3), "adc": ("ADC", "10⁻⁶ mm²/s", 1)}


def describe(column: str, units: Mapping[str, str] | None = None) -> Metric:
    """The metric of a column, such as "MAE in the brain, DWI" of `brain_mae_dwi`.

    Args:
        column: of the table of patients.
        units: channel → unit; those of DWI and ADC are known.

    Raises:
        UnknownMetric: no pattern fits.
    """
    if column in METRICS:
        return METRICS[column]
    prefixes = [p.removesuffix("{channel}") for p in METRICS if p.endswith("{channel}")]
    fitting = [prefix for prefix in prefixes if column.startswith(prefix) and column != prefix]
    if not fitting:
        raise UnknownMetric(f"no metric is called {column!r}; known are {', '.join(METRICS)}")
    prefix = max(fitting, key=len)
    metric, channel = METRICS[prefix + "{channel}"], column.removeprefix(prefix)
    title, unit, decimals = CHANNELS.get(channel, (channel, "", 3))
    metric = replace(metric, title=f"{metric.title}, {title}", channel=channel)
    if metric.unit != CHANNEL_UNIT:
        return metric
    return replace(metric, unit=(units or {}).get(channel, unit), decimals=decimals)
