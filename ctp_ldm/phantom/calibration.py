"""What a phantom's patients are like, against what is published: measured on images, not read from settings.

Every figure is one of a group of patients that is simulated for it: strokes of large arteries that are not reperfused
at the time of the CT, as the published ones are, lacunes, and patients without lesion to count false alarms in.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata, spearmanr
from tqdm import tqdm

from ctp_ldm.phantom import ct, mri
from ctp_ldm.phantom.grid import Mask
from ctp_ldm.phantom.haemodynamics import patient_bolus
from ctp_ldm.phantom.learnable import VoxelMaps, learnable, visible_lacunes, voxel_maps
from ctp_ldm.phantom.parallel import each_case, shared_atlas
from ctp_ldm.phantom.patient import Settings, draw_patient
from ctp_ldm.phantom.simulate import Truth, draw_streams, draw_truth, scan_ct, scan_mri

Group = Literal["large artery", "lacune", "lesion-free"]
Patients = Sequence[dict[str, Any]]
Groups = dict[Group, Patients]

LOW_RCBF, LOW_ADC = 0.38, 620.0
LEAST_ML = 1.0
OTHERS: dict[str, Any] = {"emboli": 0.0, "lacune": 0.0, "hypoperfusion": 0.0, "lesion_free": 0.0, "reperfused": 0.0}
GROUPS: dict[Group, dict[str, Any]] = {
    "large artery": OTHERS,
    "lacune": {**OTHERS, "lacune": 1.0},
    "lesion-free": {**OTHERS, "lesion_free": 1.0},
}


def group_of(settings: Settings, group: Group) -> Settings:
    """The settings of a group: all that is not its kind of patient is as in the mix."""
    return settings._replace(mix=replace(settings.mix, **GROUPS[group]))


def measure_patient(settings: Settings, index: int) -> dict[str, Any]:
    """Everything that the targets need of case `index`."""
    rng = draw_streams(settings, index)
    truth = draw_truth(rng, settings, index, shared_atlas())
    computed, diffusion = scan_ct(rng, truth), scan_mri(rng, truth)
    patient, head = truth.patient, truth.head
    found: dict[str, Any] = {"voxels": voxel_maps(truth, computed, diffusion)}
    if patient.kind != "territorial":
        return found
    tissue = (head.tissue > 0.7) & truth.brain
    label = diffusion.label & tissue
    untouched = tissue & (truth.lesion.core < 0.01) & (truth.chronic.scar < 0.01) & (truth.chronic.diseased < 0.05)
    found |= {
        "lesion_ml": float(diffusion.label.sum() * patient.grid.voxel_ml),
        "onset_minutes": patient.onset_minutes,
        "collaterals": patient.collaterals,
        **_enhancement(truth),
        "adc_grey": _median(diffusion.adc, untouched & (head.grey > 0.9)),
        "adc_white": _median(diffusion.adc, untouched & (head.white > 0.9)),
        "hu_grey": _median(computed.unenhanced, untouched & (head.grey > 0.9)) - patient.ct_offset_hu,
        "hu_white": _median(computed.unenhanced, untouched & (head.white > 0.9)) - patient.ct_offset_hu,
        **rule(found["voxels"]),
        "truly_low_ml": float(((truth.lesion.relative_flow < LOW_RCBF) & tissue).sum() * patient.grid.voxel_ml),
    }
    if label.sum() * patient.grid.voxel_ml >= LEAST_ML:
        b0, _ = mri.signals(draw_streams(settings, index).mri, patient, head, truth.lesion, truth.chronic)
        deep = truth.lesion.core > 0.9
        found |= {
            "adc_lesion": float(diffusion.adc[label].mean()),
            "adc_within": float(diffusion.adc[label].std()),
            "b0_lesion": _median(b0, deep & tissue) / _median(b0, untouched),
            "low_adc_dice": _dice((diffusion.adc > 0) & (diffusion.adc <= LOW_ADC) & tissue, label),
            # As a reader's eye does: noise is averaged over some millimetres before grey values are compared.
            "auc_hu": auc(-_smoothed(truth, computed.unenhanced, tissue)[tissue], label[tissue]),
            "auc_cbf": auc(-computed.maps.cbf[tissue], label[tissue]),
            "core_flow": _median(truth.lesion.relative_flow, (truth.lesion.core > 0.5) & tissue),
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


def rule(maps: VoxelMaps) -> dict[str, float]:
    """Millilitres of the infarct, of what has less than 38 % of the other side's mean flow, and of both together."""
    cbf = maps.maps["CT"]["cbf"].astype(np.float32)
    inside = maps.inside
    low = inside & maps.ill & (cbf < LOW_RCBF * cbf[inside & ~maps.ill].mean())
    infarct = inside & (maps.label > 0.5)
    masks = {"label_ml": infarct, "low_ml": low, "hit_ml": low & infarct}
    return {name: float(mask.sum() * maps.voxel_ml) for name, mask in masks.items()}


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


def measure(settings: Settings, patients: int, workers: int = 2) -> Groups:
    """Simulate every group without writing it, with a progress bar.

    Args:
        settings: of the patients.
        patients: strokes of large arteries; half as many lacunes, and a quarter as many patients without lesion.
        workers: processes.
    """
    counts: dict[Group, int] = {"large artery": patients, "lacune": patients // 2, "lesion-free": patients // 4}
    groups: Groups = {}
    for group, count in counts.items():
        work = each_case(partial(measure_patient, group_of(settings, group)), range(1, count + 1), workers)
        groups[group] = list(tqdm(work, total=count, desc=group, unit="patient"))
    return groups


def summarise(settings: Settings, groups: Groups) -> dict[str, float]:
    """All figures of the groups by a short name; NaN for what too few patients leave open."""
    ill = groups["large artery"]
    found: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of no patients the mean is NaN, and is shown as that
        for key in sorted({key for p in ill for key in p} - {"voxels"}):
            values = np.array([p[key] for p in ill if key in p], dtype=float)
            found |= {key: float(np.nanmean(values)), f"{key} SD": float(np.nanstd(values))}
            found |= {f"{key} {q} %": float(np.nanpercentile(values, q)) for q in (25, 50, 75)}
    label, low, hit = (np.array([p[key] for p in ill]) for key in ("label_ml", "low_ml", "hit_ml"))
    there = label > 0
    found["rule bias"], found["rule SD"] = float((low - label).mean()), float((low - label).std())
    found["rule difference"] = float(np.abs(low - label).mean())
    found["rule sensitivity"] = float(hit.sum() / max(label.sum(), 1e-9))
    found["rule false"] = float((low - hit).mean())
    found["rule Dice"] = float((2 * hit[there] / (low + label)[there]).mean()) if there.any() else float("nan")
    for key in ("onset_minutes", "collaterals", "truly_low_ml"):
        found[f"Spearman {key}"] = float(spearmanr(label, [p[key] for p in ill])[0])
    voxels = {group: [p["voxels"] for p in patients] for group, patients in groups.items()}
    for told in ("CT", "truth"):
        found[f"{told} Dice"], found[f"{told} difference"] = learnable(voxels["large artery"], told)
    found["lacunes"] = visible_lacunes(voxels["lacune"], voxels["lesion-free"])
    kinds = [draw_patient(draw_streams(settings, i).hidden, settings, i).kind for i in range(1, len(ill) + 1)]
    found["small"] = sum(kind in ("emboli", "lacune") for kind in kinds) / len(kinds)
    return found
