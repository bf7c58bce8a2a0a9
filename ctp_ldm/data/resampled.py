"""What the way to the grid does to a case: noise and sharpness before and after, and lesions too small for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctp_ldm.data.loading import LoadedCase
from ctp_ldm.geometry import Geometry, affine_ml
from ctp_ldm.resampling import FWHM_PER_SD, Axis

CLIPPED_AT = 4.0


@dataclass(frozen=True)
class Resampled:
    """A case's masks on the grid, and what is told of it.

    brain, lesion: (Z, H, W) bool; lesion is None where the case has no mask of it.
    facts: plain values, all as [in the file, on the grid]:
        slices: how many;
        thickness: of slices, mm;
        fwhm_in_plane, fwhm_through_plane: width of what a value is the mean of, mm (`_fwhm`);
        noise: SD of the difference of two early frames over √2, HU; of series only;
        lesion_ml: where there is a lesion mask;
    and what noise is multiplied by:
        white_noise: expected of noise that is independent from voxel to voxel, by the weights' closed form;
        measured_noise: seen; more than expected where neighbours share their noise, as in real CT.
    remarks: what is odd.
    """

    brain: np.ndarray
    lesion: np.ndarray | None
    facts: dict[str, Any]
    remarks: list[str]


def resampling_of(loaded: LoadedCase, geometry: Geometry) -> Resampled:
    """Look at a case whose brain is known, in the file and on the grid."""
    assert loaded.brain is not None
    brain = geometry.mask_to_grid(loaded.brain)
    lesion = None if loaded.lesion is None else geometry.mask_to_grid(loaded.lesion)
    means = geometry.means(loaded.brain)
    through, *in_plane = geometry.axes
    edges = geometry.voxel_sizes[:2]
    before = [FWHM_PER_SD * float(np.sqrt(np.mean(np.square(edges)) / 12))]
    after = [float(np.sqrt(np.mean([_fwhm(a, e) ** 2 for a, e in zip(in_plane, edges, strict=True)])))]
    thickness = [geometry.file_slice_distance, geometry.slice_distance]
    facts: dict[str, Any] = {
        "slices": [through.length, through.count],
        "thickness": _rounded(thickness),
        "fwhm_in_plane": _rounded(before + after),
        "fwhm_through_plane": _rounded([FWHM_PER_SD * thickness[0] / np.sqrt(12), _fwhm(through, thickness[0])]),
        "white_noise": _rms(means.white_noise()[brain]),
    }
    if loaded.noise is not None and brain.any():
        noise = [_spread(loaded.noise[loaded.brain]), _spread(means(np.moveaxis(loaded.noise, 2, 0))[brain])]
        if noise[0] > 0:
            facts |= {"noise": _rounded(noise), "measured_noise": noise[1] / noise[0]}
    remarks = []
    if loaded.lesion is not None and lesion is not None:
        file_ml = affine_ml(np.asarray(geometry.affine))
        facts["lesion_ml"] = [float(loaded.lesion.sum() * file_ml), float(lesion.sum() * geometry.voxel_ml)]
        if loaded.lesion.any() and not lesion.any():
            remarks.append(
                f"the lesion of {facts['lesion_ml'][0]:.2g} mL fills half of no voxel of the grid "
                f"({geometry.spacing:g} × {geometry.spacing:g} × {geometry.slice_distance:.3g} mm): the case counts as "
                "one without lesion"
            )
    return Resampled(brain, lesion, facts, remarks)


def in_one_line(facts: Iterable[Mapping[str, Any]]) -> str:
    """Medians over cases of what `resampling_of` found: slices, sharpness, noise."""
    cases = [found for found in facts if found]
    if not cases:
        return ""

    def pair(key: str) -> str:
        return " → ".join(f"{mm:.3g}" for mm in np.median([found[key] for found in cases], axis=0))

    text = (
        f"on the grid (medians): slices {pair('thickness')} mm, FWHM in-plane {pair('fwhm_in_plane')}, through-plane "
        f"{pair('fwhm_through_plane')} mm; white noise × {np.median([found['white_noise'] for found in cases]):.2f}"
    )
    measured = [found["measured_noise"] for found in cases if "measured_noise" in found]
    return f"{text}, measured × {np.median(measured):.2f}" if measured else text


def _fwhm(axis: Axis, edge: float) -> float:
    """Width at half maximum, mm, of the Gaussian that spreads as far as a grid value's weights along an axis; of a box
    it is 0.68 of its width."""
    return FWHM_PER_SD * edge * float(np.sqrt(axis.variance()))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 1.0


def _spread(noise: np.ndarray) -> float:
    """SD without what lies beyond 4 SD: vessels that fill early, edges that moved."""
    kept = noise
    for _ in range(3):
        middle, sd = float(kept.mean(dtype=np.float64)), float(kept.std(dtype=np.float64))
        kept = noise[np.abs(noise - middle) <= CLIPPED_AT * sd]
    return float(kept.std(dtype=np.float64))


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 4) for value in values]
