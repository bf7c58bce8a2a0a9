"""What can be known of diffusion from one voxel's perfusion: two regressions whose errors bracket a network's.

The ceiling is told the true CBF, CBV and delay of a voxel; the floor sees the voxel's own noisy curve. Neither sees a
voxel's surroundings, which a network does; what the ceiling misses (onset, collaterals, reperfusion, misregistration)
is hidden from all of them.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from ctp_ldm.phantom.grid import Mask
from ctp_ldm.phantom.parallel import each_case, shared_atlas
from ctp_ldm.phantom.patient import Settings
from ctp_ldm.phantom.simulate import Computed, Truth, draw_streams, draw_truth, scan_ct, scan_mri

ORACLES = {"true CBF, CBV and delay": "true_perfusion", "noisy curve of the voxel": "noisy_curve", "none": None}
VOXELS = 1500
STEPS_S = np.arange(-3.0, 36.0, 3.0)
NORMAL_ADC = (650, 950)


@dataclass(frozen=True)
class Voxels:
    """Some voxels of a patient: features (N, F) of each oracle, targets (N, 2: relative DWI, ADC), lesion (N,) bool."""

    true_perfusion: np.ndarray
    noisy_curve: np.ndarray
    targets: np.ndarray
    lesion: np.ndarray


def sample_voxels(settings: Settings, index: int) -> Voxels:
    """Tissue voxels of case `index`: up to half of them from the lesion."""
    rng = draw_streams(settings, index)
    truth = draw_truth(rng, settings, index, shared_atlas())
    computed, diffusion = scan_ct(rng, truth), scan_mri(rng, truth)
    tissue = (truth.head.tissue > 0.5) & truth.brain
    chosen = _choose(np.random.default_rng((settings.seed, index)), tissue, diffusion.label)
    normal = tissue & (diffusion.adc >= NORMAL_ADC[0]) & (diffusion.adc <= NORMAL_ADC[1])
    dwi = diffusion.dwi / np.median(diffusion.dwi[normal])
    flow = truth.flow
    return Voxels(
        np.stack([flow.cbf[chosen], flow.cbv[chosen], flow.delay[chosen]], axis=1),
        _curves(truth, computed, chosen),
        np.stack([dwi[chosen], diffusion.adc[chosen].astype(float)], axis=1),
        diffusion.label[chosen],
    )


def _choose(rng: np.random.Generator, tissue: Mask, label: Mask) -> tuple[np.ndarray, ...]:
    inside, outside = (np.flatnonzero((tissue & mask).ravel()) for mask in (label, ~label))
    parts = [rng.choice(part, min(VOXELS // 2, part.size), replace=False) for part in (inside, outside)]
    return np.unravel_index(np.concatenate(parts), tissue.shape)


def _curves(truth: Truth, computed: Computed, chosen: tuple[np.ndarray, ...]) -> np.ndarray:
    """(N, 1 + steps): HU before contrast, and enhancement at steps around the bolus's arrival."""
    times, arrival = np.array(truth.patient.frame_times_s), truth.patient.arrival_s
    curves = computed.series[chosen].astype(np.float32)
    before = curves[:, times < arrival].mean(axis=1, keepdims=True)
    at = np.clip(arrival + STEPS_S, times[0], times[-1])
    sampled = np.stack([np.interp(at, times, curve) for curve in curves])
    return np.concatenate([before, sampled - before], axis=1)


def bracket(settings: Settings, patients: int, workers: int = 2) -> dict[str, dict[str, float]]:
    """Errors of both oracles on the last third of patients 1 … `patients`, learnt from the others.

    They learn from as many lesion as other voxels, as a lesion-aware network does.

    Returns:
        Oracle → mean absolute error over patients, of DWI (relative) and ADC (10⁻⁶ mm²/s), in lesion and elsewhere. The
        oracle "none" says the same of every voxel.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    work = each_case(partial(sample_voxels, settings), range(1, patients + 1), workers)
    voxels = list(tqdm(work, total=patients, desc="oracle", unit="patient"))
    train, test = voxels[: 2 * patients // 3], voxels[2 * patients // 3 :]
    found: dict[str, dict[str, float]] = {}
    for name, key in ORACLES.items():
        errors: dict[str, list[float]] = {}
        for target, label in enumerate(("dwi", "adc")):
            known = np.concatenate([_features(v, key) for v in train])
            values = np.concatenate([v.targets[:, target] for v in train])
            model: Any = HistGradientBoostingRegressor(loss="absolute_error", max_iter=200, random_state=0)
            model.fit(known, values)
            for v in test:
                error = np.abs(model.predict(_features(v, key)) - v.targets[:, target])
                for where, mask in (("lesion", v.lesion), ("elsewhere", ~v.lesion)):
                    if mask.any():
                        errors.setdefault(f"{label} {where}", []).append(float(error[mask].mean()))
        found[name] = {what: float(np.mean(values)) for what, values in errors.items()}
    return found


def _features(voxels: Voxels, key: str | None) -> np.ndarray:
    return np.zeros((len(voxels.lesion), 1)) if key is None else np.asarray(getattr(voxels, key))
