"""How much of the infarct can be learned from CT: gradient boosting over voxels and what surrounds them.

Two learners, on a grid as coarse as a study's (`EDGE_MM`). One finds infarcts of large arteries, told what CT shows or
what is true; one is trained for lacunes alone. Neither is a network: who trains one should do at least as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, label
from tqdm import tqdm

from ctp_ldm.phantom.grid import Float, Mask
from ctp_ldm.phantom.mri import Diffusion
from ctp_ldm.phantom.regions import INFARCTABLE
from ctp_ldm.phantom.simulate import Computed, Truth

Told = Literal["CT", "truth"]

EDGE_MM = 4.0
WINDOWS_S = ((0, 4), (4, 8), (8, 14), (14, 24))  # of the series, from the bolus's arrival in the brain
RELATIVE = ("hu",)  # compared by difference; all else by ratio
SURROUNDINGS_MM = (4.0, 8.0, 16.0)  # full widths at half maximum
# Of a patient, infarct and other, that are learned from at most: Dice counts patients, so a large infarct should not be
# learned from more than a small one.
VOXELS = {True: 200, False: 2000}
TRAINED = 63  # patients, as ISLES'18 had for training
TRAININGS = 3  # with other patients each: what is learned from so few varies
FOLDS = 3
FALSE_FOCI = 0.2  # in a patient without lesion, that a finder of lacunes may see


@dataclass(frozen=True)
class VoxelMaps:
    """One patient on the coarse grid, maps (X, Y, Z).

    tissue: part of a voxel that is brain tissue. label: part of it that is infarct on the MRI. ill: the side of it.
    maps: of what CT shows, and of what is true; means over the voxel's tissue.
    """

    spacing: tuple[float, float, float]
    tissue: Float
    label: Float
    ill: Mask
    maps: dict[Told, dict[str, NDArray[np.float16]]]

    @property
    def inside(self) -> Mask:
        """Where there is tissue to judge."""
        return self.tissue > 0.5

    @property
    def infarct(self) -> NDArray[np.bool_]:
        """(N,) whether the voxels inside are infarct."""
        return self.label[self.inside] > 0.5

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(np.prod(self.spacing)) / 1000


def voxel_maps(truth: Truth, computed: Computed, diffusion: Diffusion) -> VoxelMaps:
    """What a learner is told of a patient."""
    spacing = truth.patient.grid.spacing
    step = max(1, round(EDGE_MM / spacing[0]))
    tissue = (truth.head.tissue > INFARCTABLE) & truth.brain
    part = _coarser(tissue, step)

    def within(image: NDArray[Any]) -> NDArray[np.float16]:
        return (_coarser(np.where(tissue, image, 0), step) / np.maximum(part, 1e-3)).astype(np.float16)

    seen = {"hu": computed.unenhanced, **computed.maps._asdict(), **_windows(truth, computed, tissue)}
    true = {"cbf": truth.flow.cbf, "relative_flow": truth.flow.relative_flow, "delay": truth.flow.delay}
    return VoxelMaps(
        (spacing[0] * step, spacing[1] * step, spacing[2]),
        part,
        _coarser(diffusion.label & tissue, step),
        _coarser((truth.head.side > 0) == (truth.patient.side == "right"), step) > 0.5,
        {"CT": {k: within(v) for k, v in seen.items()}, "truth": {k: within(v) for k, v in true.items()}},
    )


def _coarser(image: NDArray[Any], step: int) -> Float:
    """Means of `step` x `step` voxels in-plane; what is left over at the ends is cut off."""
    x, y = (n // step * step for n in image.shape[:2])
    blocks = image[:x, :y].reshape(x // step, step, y // step, step, -1)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def _windows(truth: Truth, computed: Computed, tissue: Mask) -> dict[str, Float]:
    """Enhancement averaged over each of `WINDOWS_S`; the nearest frame where a scan has none in it."""
    times = np.array(truth.patient.frame_times_s)
    mean = np.array([computed.series[..., i][tissue].mean() for i in range(times.size)])
    rise = mean - mean[0]
    first = max(1, int(np.argmax(rise > 0.1 * rise.max())))
    before = computed.series[..., :first].mean(axis=-1, dtype=np.float32)
    windows = {}
    for begin, end in WINDOWS_S:
        since = times - times[first]
        chosen = (since >= begin) & (since < end)
        if not chosen.any():
            chosen[np.abs(since - (begin + end) / 2).argmin()] = True
        windows[f"enhancement {begin}-{end} s"] = computed.series[..., chosen].mean(axis=-1, dtype=np.float32) - before
    return windows


def features(patient: VoxelMaps, told: Told) -> Float:
    """(N, F) of the voxels inside: maps relative to their median, each alone and averaged over its surroundings."""
    inside, columns = patient.inside, []
    for name, stored in patient.maps[told].items():
        image = stored.astype(np.float32)
        usual = float(np.median(image[inside]))
        image = image - usual if name in RELATIVE else image / (usual or 1.0)
        columns.append(image[inside])
        columns += [_averaged(patient, image, fwhm)[inside] for fwhm in SURROUNDINGS_MM]
    return np.stack(columns, axis=1)


def _averaged(patient: VoxelMaps, image: Float, fwhm_mm: float) -> Float:
    """Gaussian mean over the tissue around a voxel."""
    sigma = [fwhm_mm / 2.355 / edge for edge in patient.spacing]
    weight = gaussian_filter(patient.tissue, sigma)
    return gaussian_filter(image * patient.tissue, sigma) / np.maximum(weight, 1e-3)


def _fitted(rng: np.random.Generator, known: Sequence[Float], infarct: Sequence[NDArray[np.bool_]]) -> Any:
    """A classifier of voxels, learned from some of each patient."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    chosen = [
        np.concatenate([rng.permutation(np.flatnonzero(y == kind))[:most] for kind, most in VOXELS.items()])
        for y in infarct
    ]
    model = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=200, l2_regularization=1.0, random_state=0
    )
    x = np.concatenate([k[c] for k, c in zip(known, chosen, strict=True)])
    return model.fit(x, np.concatenate([y[c] for y, c in zip(infarct, chosen, strict=True)]))


def out_of_fold(known: Sequence[Float], infarct: Sequence[NDArray[np.bool_]]) -> list[Float]:
    """Probabilities (N,) for each patient, from a model that did not learn from it."""
    rng = np.random.default_rng(0)
    found: dict[int, Float] = {}
    for fold in range(min(FOLDS, len(known))):
        held = range(fold, len(known), FOLDS)
        rest = [i for i in range(len(known)) if i not in held]
        model = _fitted(rng, [known[i] for i in rest], [infarct[i] for i in rest])
        found |= {i: model.predict_proba(known[i])[:, 1] for i in held}
    return [found[i] for i in range(len(known))]


def learnable(patients: Sequence[VoxelMaps], told: Told) -> tuple[float, float]:
    """Mean Dice over patients with infarct, and mean absolute difference of volumes in mL, of those not learned from.

    The mean of up to `TRAININGS` learners, of which none shares a patient with another in learning. Each learns from
    `TRAINED` patients, half of them all where there are fewer than twice as many, and is judged on the rest.
    """
    count = min(TRAINED, len(patients) // 2)
    known, infarct = [features(p, told) for p in patients], [p.infarct for p in patients]
    judged = []
    trainings = range(min(TRAININGS, len(patients) // count))
    for training in tqdm(trainings, desc=f"learning, told {'what CT shows' if told == 'CT' else 'the truth'}"):
        learned = list(range(training * count, (training + 1) * count))
        if any(infarct[i].any() for i in learned):
            judged.append(_judged(patients, known, infarct, learned))
    if not judged:
        return float("nan"), float("nan")
    dice, difference = np.mean(judged, axis=0)
    return float(dice), float(difference)


def _judged(
    patients: Sequence[VoxelMaps], known: Sequence[Float], infarct: Sequence[NDArray[np.bool_]], learned: Sequence[int]
) -> tuple[float, float]:
    """`learnable` of one learner; `learned` are the patients that it learns from.

    The cut-off is where their volumes, out of fold, are right in the mean: neither of the two figures is favoured.
    """
    shown = [known[i] for i in learned], [infarct[i] for i in learned]
    pooled = np.concatenate(out_of_fold(*shown))
    cut = np.sort(pooled)[::-1][max(0, int(sum(y.sum() for y in shown[1])) - 1)]
    model = _fitted(np.random.default_rng(0), *shown)
    dices, differences = [], []
    for i in sorted(set(range(len(patients))) - set(learned)):
        found = model.predict_proba(known[i])[:, 1] >= cut
        differences.append(abs(int(found.sum()) - int(infarct[i].sum())) * patients[i].voxel_ml)
        if infarct[i].any():
            dices.append(2 * float((found & infarct[i]).sum()) / float(found.sum() + infarct[i].sum()))
    return float(np.mean(dices)) if dices else float("nan"), float(np.mean(differences))


def visible_lacunes(lacunes: Sequence[VoxelMaps], healthy: Sequence[VoxelMaps]) -> float:
    """Share of lacunes that a learner trained for them finds, less the share that chance finds at the mirror site.

    The learner may see at most `FALSE_FOCI` in a patient without lesion. Patients are judged by learners that have not
    seen them.

    Args:
        lacunes: patients with a lacune each.
        healthy: patients without lesion.
    """
    everyone = [*lacunes, *healthy]
    known = [features(p, "CT") for p in everyone]
    infarct = [p.label[p.inside] > 0.25 for p in everyone]  # lacunes are hardly larger than a voxel
    probable = []
    for patient, p in zip(everyone, out_of_fold(known, infarct), strict=True):
        image = np.zeros(patient.tissue.shape, np.float32)
        image[patient.inside] = p
        probable.append(_averaged(patient, image, SURROUNDINGS_MM[0]))
    ill, well = probable[: len(lacunes)], probable[len(lacunes) :]
    cut = _cut_of_foci(well)
    hits, chance = [], []
    for patient, image in zip(lacunes, ill, strict=True):
        site = binary_dilation(patient.label > 0.1, np.ones((3, 3, 1)))
        if site.any():
            hits.append(bool((image[site] > cut).any()))
            chance.append(bool((image[_mirrored(patient, site)] > cut).any()))
    return float(np.mean(hits) - np.mean(chance)) if hits else float("nan")


def _cut_of_foci(images: Sequence[Float]) -> float:
    """The lowest cut-off, to a hundredth of the range, that leaves at most `FALSE_FOCI` connected regions an image."""
    highest = max(float(image.max()) for image in images)
    cut = highest
    for candidate in np.linspace(highest, 0, 101)[1:]:
        if np.mean([label(image > candidate)[1] for image in images]) > FALSE_FOCI:
            break
        cut = float(candidate)
    return cut


def _mirrored(patient: VoxelMaps, site: Mask) -> Mask:
    """A site on the other side of the brain's middle along the first axis."""
    columns = patient.tissue.sum(axis=(1, 2))
    middle = float((columns * np.arange(columns.size)).sum() / columns.sum())
    voxels = np.argwhere(site)
    voxels[:, 0] = np.rint(2 * middle - voxels[:, 0]).clip(0, columns.size - 1)
    mirrored = np.zeros_like(site)
    mirrored[tuple(voxels.T)] = True
    return mirrored
