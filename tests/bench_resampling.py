"""What resampling keeps of the infarct: `make bench-resampling`. How much can be learned of it, with and without.

Strokes of large arteries are simulated as scanners write them (0.45 × 0.45 × 1.25 mm, a slab of 60 mm, frames a second
apart), one at a time in memory, and brought to 4 mm in four ways:

    before     a Gaussian and linear interpolation in-plane, slices as they are, phases between two frames
    phases     the same, but phases fitted to all frames around their time
    averages   masked means over the grid's voxels as well
    slabs      and slabs of 5 mm: what `prepare` does

Gradient boosting learns the infarct from the source's channels and their surroundings, and is judged on patients that
it did not learn from, all on the same slabs of 5 mm. What was simulated is kept in the folder: a second run goes on.
"""

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from ctp_ldm.data.phases import find_bolus, mean_curve, phase_weights
from ctp_ldm.geometry import Geometry
from ctp_ldm.metrics.statistics import bootstrap_mean
from ctp_ldm.phantom import PRESETS, ct, mri
from ctp_ldm.phantom.anatomy import build_head
from ctp_ldm.phantom.calibration import group_of
from ctp_ldm.phantom.chronic import draw_chronic
from ctp_ldm.phantom.grid import Grid
from ctp_ldm.phantom.haemodynamics import patient_bolus, perfusion
from ctp_ldm.phantom.learnable import out_of_fold
from ctp_ldm.phantom.lesions import draw_lesion
from ctp_ldm.phantom.parallel import each_case, shared_atlas
from ctp_ldm.phantom.patient import Settings, draw_patient
from ctp_ldm.phantom.simulate import Truth, draw_streams

EDGES_MM, SLAB_MM, FRAME_S = (0.45, 0.45, 1.25), 60.0, 1.0
SPACING, SIZE, THICKNESS = 4.0, (48, 56), 5.0
PHASES, INTERVAL_S = 15, 2.5
SURROUNDINGS_MM = (4.0, 8.0, 16.0)  # full widths at half maximum
WAYS = ("before", "phases", "averages", "slabs")


def thin(grid: Grid) -> Grid:
    """The same slab of a head, as a scanner writes it."""
    extent = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
    shape = tuple(round(e / s) for e, s in zip((*extent[:2], SLAB_MM), EDGES_MM, strict=True))
    affine = grid.affine.copy()
    affine[:3, :3] *= np.array(EDGES_MM) / grid.spacing
    middle = grid.affine @ [*(np.array(grid.shape) - 1) / 2, 1]
    affine[:3, 3] = middle[:3] - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Grid((shape[0], shape[1], shape[2]), EDGES_MM, affine)


def simulate(settings: Settings, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The series (X, Y, Z, T) int16, its times, and brain and label (X, Y, Z)."""
    rng = draw_streams(settings, index)
    drawn = draw_patient(rng.hidden, settings, index)
    times = tuple(np.arange(0, drawn.frame_times_s[-1], FRAME_S))
    patient = replace(drawn, grid=thin(drawn.grid), frame_times_s=times)
    chronic, head = draw_chronic(rng.chronic, patient, build_head(shared_atlas(), patient))
    lesion = draw_lesion(rng.lesion, patient, head)
    flow = perfusion(rng.circulation, patient, head, lesion.relative_flow, chronic.flow)
    unenhanced = ct.baseline(rng.ct, patient, head, lesion, chronic)
    brain = Truth(patient, head, chronic, lesion, flow).brain
    label = mri.diffusion(rng.mri, patient, head, lesion, chronic).label
    series = ct.series(rng.ct, patient, head, unenhanced, flow, patient_bolus(patient))
    return series, np.array(times), brain, label & brain


def between_two_frames(times: np.ndarray, arrival: float) -> np.ndarray:
    """(1 + P, T) as `phase_weights`, but each phase between the two frames around it."""
    weights = phase_weights(times, arrival, PHASES, INTERVAL_S)
    for phase, at in enumerate(np.minimum(arrival + INTERVAL_S * np.arange(PHASES), times[-1]), start=1):
        right = int(np.clip(np.searchsorted(times, at), 1, len(times) - 1))
        share = (at - times[right - 1]) / (times[right] - times[right - 1])
        weights[phase] = -weights[0]
        weights[phase, [right - 1, right]] += 1 - share, share
    return weights


def interpolated(volume: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(X, Y, Z) → (Z, H, W): a Gaussian of σ = (ratio - 1) / 2 voxels, then linear interpolation, in-plane."""
    _, x, y = geometry.axes
    smooth = ndimage.gaussian_filter(volume, [(x.ratio - 1) / 2, (y.ratio - 1) / 2, 0], truncate=3.0)
    places = np.meshgrid(*[a.origin + a.ratio * np.arange(a.count) for a in (x, y)], indexing="ij")
    return np.stack(
        [ndimage.map_coordinates(smooth[..., z], places, order=1, mode="nearest") for z in range(volume.shape[2])]
    )


def prepared(settings: Settings, folder: Path, index: int) -> None:
    """Simulate one patient and write what each way makes of it."""
    path = folder / f"{index}.npz"
    if path.is_file():
        return
    series, times, brain, label = simulate(settings, index)
    affine = np.diag([*EDGES_MM, 1.0])  # nothing here asks which side is which
    thick = Geometry.centred(affine, brain, SPACING, SIZE, thickness=THICKNESS)
    thin_slices = replace(thick, slices=thick.ras_shape[2])
    bolus = find_bolus(mean_curve(series, brain), times)
    made: dict[str, np.ndarray] = {}
    for name, weights in (
        ("before", between_two_frames(times, bolus.arrival)),
        ("fitted", phase_weights(times, bolus.arrival, PHASES, INTERVAL_S)),
    ):
        channels: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
        for row in weights.astype(np.float32):
            volume = sum(w * series[..., t] for t, w in enumerate(row) if w)
            if name == "before":
                channels["before"].append(interpolated(volume, thin_slices))
            else:
                channels["phases"].append(interpolated(volume, thin_slices))
                channels["averages"].append(thin_slices.to_grid(volume, brain))
                channels["slabs"].append(thick.to_grid(volume, brain))
        made |= {way: np.stack(c, axis=1).astype(np.float16) for way, c in channels.items() if c}
    for slices, geometry in (("thin", thin_slices), ("thick", thick)):
        made |= {f"{slices} brain": geometry.mask_to_grid(brain), f"{slices} label": geometry.mask_to_grid(label)}
    temporary = folder / f".{index}.npz"
    np.savez(temporary, **made)
    temporary.rename(path)


def features(source: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """(N, F) of the voxels in the brain: channels (Z, C, H, W) over the patient's own enhancement, and around them."""
    thickness = SLAB_MM / len(brain)
    values = source.astype(np.float32)
    usual = np.median(values[:, 1:].max(axis=1)[brain])
    columns = []
    for c in range(values.shape[1]):
        image = values[:, c] - np.median(values[:, c][brain]) if c == 0 else values[:, c] / usual
        image = np.where(brain, image, 0)
        columns.append(image[brain])
        for fwhm in SURROUNDINGS_MM:
            sigma = [fwhm / 2.355 / edge for edge in (thickness, SPACING, SPACING)]
            weight = ndimage.gaussian_filter(brain.astype(np.float32), sigma)
            columns.append((ndimage.gaussian_filter(image, sigma) / np.maximum(weight, 1e-3))[brain])
    return np.stack(columns, axis=1)


def dice(folder: Path, patients: int, way: str) -> np.ndarray:
    """(patients,) of what is learned out of fold, cut where volumes are right in the mean, on slabs."""
    slices = "thick" if way == "slabs" else "thin"
    loaded = [np.load(folder / f"{i}.npz") for i in range(1, patients + 1)]
    brains = [f[f"{slices} brain"] for f in loaded]
    known = [features(f[way], brain) for f, brain in zip(loaded, brains, strict=True)]
    infarct = [f[f"{slices} label"][brain] for f, brain in zip(loaded, brains, strict=True)]
    images = []
    for file, brain, probable in zip(loaded, brains, out_of_fold(known, infarct), strict=True):
        image = np.zeros(brain.shape, np.float32)
        image[brain] = probable
        slab = file["thick brain"]
        part = brain.reshape(len(slab), -1, *brain.shape[1:])
        mean = image.reshape(part.shape).sum(axis=1) / np.maximum(part.sum(axis=1), 1)
        images.append(np.where(slab, mean, 0))
    labels = [f["thick label"] & f["thick brain"] for f in loaded]
    pooled = np.concatenate([image.ravel() for image in images])
    cut = np.sort(pooled)[::-1][sum(int(label.sum()) for label in labels) - 1]
    found = [image >= cut for image in images]
    shared = [2 * int((f & label).sum()) for f, label in zip(found, labels, strict=True)]
    return np.array([s / max(1, int(f.sum() + t.sum())) for s, f, t in zip(shared, found, labels, strict=True)])


def main() -> None:
    """Simulate, learn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what was simulated is kept here")
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--seed", type=int, default=903)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    folder = options.folder / str(options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    settings = group_of(Settings(options.seed, "standard", PRESETS["standard"].mix), "large artery")
    work = each_case(partial(prepared, settings, folder), range(1, options.patients + 1), options.workers)
    for _ in tqdm(work, total=options.patients, unit="patient"):
        pass
    found = {way: dice(folder, options.patients, way) for way in WAYS}
    for way, values in found.items():
        mean, gain = bootstrap_mean(values), bootstrap_mean(values - found["before"])
        print(
            f"{way:10} Dice {mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}], over before {gain.mean:+.3f} "
            f"[{gain.low:+.3f}, {gain.high:+.3f}]"
        )
    (folder / "dice.json").write_text(json.dumps({w: list(map(float, v)) for w, v in found.items()}, indent=1))


if __name__ == "__main__":
    main()
