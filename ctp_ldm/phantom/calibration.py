"""What a phantom's patients are like, against what is published: measured on images, not read from settings."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from tqdm import tqdm

from ctp_ldm.phantom import ct, mri
from ctp_ldm.phantom.grid import Mask
from ctp_ldm.phantom.haemodynamics import patient_bolus
from ctp_ldm.phantom.parallel import each_case, shared_atlas
from ctp_ldm.phantom.patient import Settings
from ctp_ldm.phantom.simulate import Computed, Truth, draw_streams, draw_truth, scan_ct, scan_mri

LOW_RCBF, LOW_ADC = 0.38, 620.0
LEAST_ML = 1.0
Patients = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Target:
    """One figure: what it is, over which patients, between which values it should lie, and who says so."""

    name: str
    unit: str
    low: float
    high: float
    source: str
    measure: Callable[[Patients], float]


def measure_patient(settings: Settings, index: int) -> dict[str, Any]:
    """Everything that the targets need of case `index`."""
    rng = draw_streams(settings, index)
    truth = draw_truth(rng, settings, index, shared_atlas())
    computed, diffusion = scan_ct(rng, truth), scan_mri(rng, truth)
    patient, head = truth.patient, truth.head
    tissue = (head.tissue > 0.7) & truth.brain
    label = diffusion.label & tissue
    untouched = tissue & (truth.lesion.core < 0.01) & (truth.chronic.scar < 0.01) & (truth.chronic.diseased < 0.05)
    found: dict[str, Any] = {
        "kind": patient.kind,
        "lesion_ml": float(diffusion.label.sum() * patient.grid.voxel_ml),
        **_enhancement(truth),
        "adc_grey": _median(diffusion.adc, untouched & (head.grey > 0.9)),
        "adc_white": _median(diffusion.adc, untouched & (head.white > 0.9)),
        "hu_grey": _median(computed.unenhanced, untouched & (head.grey > 0.9)) - patient.ct_offset_hu,
        "hu_white": _median(computed.unenhanced, untouched & (head.white > 0.9)) - patient.ct_offset_hu,
        **_flow(truth, computed, tissue, label),
    }
    if label.sum() * patient.grid.voxel_ml >= LEAST_ML:
        b0, _ = mri.signals(draw_streams(settings, index).mri, patient, head, truth.lesion, truth.chronic)
        deep = truth.lesion.core > 0.9
        found |= {
            "adc_lesion": float(diffusion.adc[label].mean()),
            "adc_within": float(diffusion.adc[label].std()),
            "b0_lesion": _median(b0, deep & tissue) / _median(b0, untouched),
            "dwi_lesion": _median(diffusion.dwi, label) / _median(diffusion.dwi, untouched),
            "low_adc_dice": _dice((diffusion.adc > 0) & (diffusion.adc <= LOW_ADC) & tissue, label),
            # As a reader's eye does: noise is averaged over some millimetres before grey values are compared.
            "auc_hu": auc(-_smoothed(truth, computed.unenhanced, tissue)[tissue], label[tissue]),
            "auc_cbf": auc(-computed.maps.cbf[tissue], label[tissue]),
            "auc_tmax": auc(computed.maps.tmax[tissue], label[tissue]),
        }
    return found


def _enhancement(truth: Truth) -> dict[str, float]:
    """Noise-free peaks of healthy grey and white matter and of the arterial input, HU."""
    bolus = patient_bolus(truth.patient)
    healthy = (truth.lesion.relative_flow > 0.98) & (truth.chronic.flow > 0.98)
    curves = {"peak_grey": [], "peak_white": []}  # type: dict[str, list[float]]
    for frame in ct.enhancement(truth.patient, truth.head, truth.flow, bolus):
        curves["peak_grey"].append(float(frame[healthy & (truth.head.grey > 0.9)].mean()))
        curves["peak_white"].append(float(frame[healthy & (truth.head.white > 0.9)].mean()))
    return {**{name: max(curve) for name, curve in curves.items()}, "peak_artery": bolus.aif.peak_hu}


def _flow(truth: Truth, computed: Computed, tissue: Mask, label: Mask) -> dict[str, Any]:
    """Voxels of the hemisphere above and below 38 % of the other side's mean flow, in and outside the label."""
    ill = (truth.head.side > 0) == (truth.patient.side == "right")
    low = computed.maps.cbf < LOW_RCBF * computed.maps.cbf[tissue & ~ill].mean()
    counts = {"hit": low & label, "missed": ~low & label, "false": low & ~label, "clear": ~low & ~label}
    return {name: int((mask & tissue & ill).sum()) for name, mask in counts.items()}


def _smoothed(truth: Truth, image: np.ndarray, tissue: Mask) -> np.ndarray:
    """2 mm Gaussian in-plane within tissue."""
    sigma = [2.0 / s for s in truth.patient.grid.spacing[:2]] + [0.0]
    weight = gaussian_filter(tissue.astype(np.float32), sigma)
    return gaussian_filter(np.where(tissue, image, 0).astype(np.float32), sigma) / np.maximum(weight, 1e-6)


def auc(scores: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs (in, outside the label) that a score orders rightly, ties half."""
    ranks, inside = rankdata(scores), int(label.sum())
    return float((ranks[label].sum() - inside * (inside + 1) / 2) / (inside * (label.size - inside)))


def _dice(a: Mask, b: Mask) -> float:
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def _median(image: np.ndarray, mask: Mask) -> float:
    return float(np.median(image[mask])) if mask.any() else float("nan")


def _mean(key: str) -> Callable[[Patients], float]:
    return lambda patients: _over(np.nanmean, key, patients)


def _over(statistic: Callable[[np.ndarray], Any], key: str, patients: Patients) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of no patients the mean is NaN, and is shown as that
        return float(statistic(np.array([p[key] for p in patients if key in p], dtype=float)))


def _share(part: str, other: str) -> Callable[[Patients], float]:
    """Pooled over the voxels of patients with a lesion."""

    def share(patients: Patients) -> float:
        ill = [p for p in patients if p["lesion_ml"] > 0]
        return sum(p[part] for p in ill) / max(1, sum(p[part] + p[other] for p in ill))

    return share


def _volume(statistic: Callable[[np.ndarray], Any]) -> Callable[[Patients], float]:
    def of_infarcts(patients: Patients) -> float:
        return float(statistic(np.array([p["lesion_ml"] for p in patients if p["kind"] == "territorial"])))

    return of_infarcts


def _small(patients: Patients) -> float:
    return sum(p["kind"] in ("emboli", "lacune") for p in patients) / len(patients)


FIESELMANN = "Fieselmann et al. 2011"
TARGETS = (
    Target("grey matter before contrast", "HU", 35.5, 38.5, "37", _mean("hu_grey")),
    Target("white matter before contrast", "HU", 27.5, 31.0, "29", _mean("hu_white")),
    Target("peak of grey matter", "HU", 8.0, 12.0, FIESELMANN, _mean("peak_grey")),
    Target("peak of white matter", "HU", 3.0, 5.2, FIESELMANN, _mean("peak_white")),
    Target("peak of the arterial input", "HU", 200.0, 400.0, FIESELMANN, _mean("peak_artery")),
    Target("ADC of grey matter", "10⁻⁶ mm²/s", 790.0, 870.0, "800–850", _mean("adc_grey")),
    Target("ADC of white matter", "10⁻⁶ mm²/s", 690.0, 760.0, "700–750", _mean("adc_white")),
    Target("ADC of the lesion, mean", "10⁻⁶ mm²/s", 590.0, 660.0, "620 ± 75", _mean("adc_lesion")),
    Target(
        "ADC of the lesion, SD between patients",
        "10⁻⁶ mm²/s",
        50.0,
        100.0,
        "620 ± 75",
        lambda p: _over(np.nanstd, "adc_lesion", p),
    ),
    Target("ADC of the lesion, SD within", "10⁻⁶ mm²/s", 100.0, 170.0, "100–150, and noise", _mean("adc_within")),
    Target("b0 of the lesion over healthy tissue", "", 1.0, 1.6, "1.0–1.15 early, 1.2–1.6 late", _mean("b0_lesion")),
    Target("volume of territorial infarcts, median", "mL", 11.0, 20.0, "log-normal, 15", _volume(np.median)),
    Target(
        "volume of territorial infarcts, σ of ln",
        "",
        1.1,
        1.6,
        "log-normal, 1.4",
        _volume(lambda ml: np.log(np.maximum(ml, 0.02)).std()),
    ),
    Target("patients with emboli or a lacune", "", 0.13, 0.25, "15–20 %", _small),
    Target("rCBF < 38 %, voxel sensitivity", "", 0.60, 0.74, "0.67, Cereda et al. 2016", _share("hit", "missed")),
    Target("rCBF < 38 %, voxel specificity", "", 0.82, 0.92, "0.87, Cereda et al. 2016", _share("clear", "false")),
    Target(
        "ADC ≤ 620, Dice with the label, median",
        "",
        0.35,
        0.51,
        "0.43, Gosch et al. 2023",
        lambda p: _over(np.nanmedian, "low_adc_dice", p),
    ),
    Target("HU before contrast, voxel AUC", "", 0.52, 0.70, "early signs are subtle", _mean("auc_hu")),
    Target("CBF, voxel AUC", "", 0.75, 0.92, "0.88, Kamalian et al. 2011", _mean("auc_cbf")),
)


def calibrate(settings: Settings, patients: int, workers: int = 2) -> list[dict[str, Any]]:
    """Simulate patients 1 … `patients` without writing them, and measure each; with a progress bar."""
    work = each_case(partial(measure_patient, settings), range(1, patients + 1), workers)
    return list(tqdm(work, total=patients, desc="patients", unit="patient"))
