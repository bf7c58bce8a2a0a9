"""What is found at every cut-off: where to cut is a choice, the curve is the quality.

A segmenter that finds less false lesion may be better, or only more careful. Its curve tells: mean false lesion volume
over patients against the mean share of lesion volume that is found, as in a free-response ROC curve whose false
positives are counted in millilitres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ctp_ldm.metrics.lesions import DETECTED_SHARE, LARGE_ML
from ctp_ldm.metrics.statistics import RESAMPLES, Interval

_TAIL = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005)
CUTOFFS = (*_TAIL, *(i / 100 for i in range(1, 100)), *(round(1 - p, 4) for p in reversed(_TAIL)))
"""Fine enough to choose one of them, and denser at the ends, where trained segmenters have most of their scores."""
AT_ML = 10.0
"""False lesion volume at which sensitivities are compared, and which cut-offs are chosen for."""
UP_TO_ML = 20.0
"""False lesion volume up to which areas are taken."""
COLUMNS = ("case", "cutoff", "found_ml", "shared_ml", "reference_ml")


class CurvesError(ValueError):
    """A table of curves that is none: a column is missing, or patients do not have the same cut-offs."""


def count_above(scores: Tensor, mask: Tensor, cutoffs: Sequence[float]) -> Tensor:
    """Voxels of a mask whose score is above each cut-off, by one histogram of each slice.

    Args:
        scores: (B, 1, H, W) float.
        mask: (B, 1, H, W) bool.
        cutoffs: K, rising.

    Returns:
        (B, K) int64.
    """
    slices, bins = len(scores), len(cutoffs) + 1
    edges = torch.tensor(cutoffs, dtype=torch.float32, device=scores.device)
    place = torch.bucketize(scores.float().contiguous(), edges).flatten(1)  # how many cut-offs are below the score
    place = place + bins * torch.arange(slices, device=scores.device)[:, None]
    histogram = torch.bincount(place[mask.flatten(1)], minlength=slices * bins).view(slices, bins)
    return histogram[:, 1:].flip(1).cumsum(1).flip(1)


@dataclass(frozen=True)
class OperatingCurve:
    """What is found of N patients at K cut-offs, from the strictest to the laxest.

    cutoffs: (K,), falling.
    false_ml: (N, K) volume found outside the reference.
    found_share: (N, K) share of the reference's volume that is found; NaN for patients without lesion.
    detected: (N, K) 1 where at least 20 % of a lesion of at least 10 mL is found, else 0; NaN for other patients.
    """

    cutoffs: np.ndarray
    false_ml: np.ndarray
    found_share: np.ndarray
    detected: np.ndarray

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> Self:
        """Of a table with the columns `COLUMNS`.

        Raises:
            CurvesError: a column is missing, there is no patient, or not all have the same cut-offs.
        """
        if missing := [name for name in COLUMNS if name not in table]:
            raise CurvesError(f"columns {', '.join(missing)} are missing; expected {', '.join(COLUMNS)}")
        if table.duplicated(["case", "cutoff"]).any():
            raise CurvesError("a patient has a cut-off twice")
        wide = table.pivot(index="case", columns="cutoff").sort_index().astype(float)
        if wide.empty or wide.isna().any(axis=None):
            raise CurvesError("expected patients who all have the same cut-offs")
        found, shared, reference = (wide[name].to_numpy()[:, ::-1] for name in COLUMNS[2:])
        share = np.where(reference > 0, shared / np.where(reference > 0, reference, 1), np.nan)
        detected = np.where(reference >= LARGE_ML, share >= DETECTED_SHARE, np.nan)
        return cls(wide["found_ml"].columns.to_numpy(float)[::-1], found - shared, share, detected)

    @cached_property
    def mean_false_ml(self) -> np.ndarray:
        """(K,), rising."""
        return self.false_ml.mean(axis=0)

    @cached_property
    def mean_found_share(self) -> np.ndarray:
        """(K,), rising; NaN where nobody has a lesion."""
        return _mean(self.found_share, np.ones((1, len(self.found_share))))[0]

    def sensitivity(self, at_ml: float = AT_ML) -> Interval:
        """Share of lesion volume found at a mean false volume, with its 95 % bootstrap interval over patients.

        Between two cut-offs it is interpolated; beyond the laxest it stays: no more is found.
        """
        return _interval(self._found_at([at_ml])[:, 0], self._with_lesion)

    def detection(self, at_ml: float = AT_ML) -> Interval:
        """Share of lesions of at least 10 mL that are detected at a mean false volume."""
        values = _at(self._resampled_false, self._resampled(self.detected), [at_ml])[:, 0]
        return _interval(values, int(np.isfinite(self.detected[:, 0]).sum()))

    def area(self, up_to_ml: float = UP_TO_ML) -> Interval:
        """Mean of `sensitivity` from no false lesion to a given mean volume: 1 is the best."""
        return _interval(self._areas(up_to_ml), self._with_lesion)

    def mean_area(self, up_to_ml: float = UP_TO_ML) -> float:
        """`area` without an interval, which is quick."""
        return float(_area(self.mean_false_ml[None], self.mean_found_share[None], up_to_ml)[0])

    def band(self, at_ml: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`sensitivity` and its interval's ends at several volumes."""
        found = self._found_at(at_ml)
        return found[0], *_ends(found[1:])

    def sensitivity_above(self, other: "OperatingCurve", at_ml: float = AT_ML) -> Interval:
        """By how much `sensitivity` exceeds another's on the same patients, who are resampled as pairs."""
        return _interval(self._found_at([at_ml])[:, 0] - other._found_at([at_ml])[:, 0], self._with_lesion)

    def area_above(self, other: "OperatingCurve", up_to_ml: float = UP_TO_ML) -> Interval:
        """By how much `area` exceeds another's on the same patients, who are resampled as pairs."""
        return _interval(self._areas(up_to_ml) - other._areas(up_to_ml), self._with_lesion)

    @property
    def _with_lesion(self) -> int:
        return int(np.isfinite(self.found_share[:, 0]).sum())

    def _resampled(self, values: np.ndarray) -> np.ndarray:
        return _mean(values, _weights(len(self.false_ml)))

    @cached_property
    def _resampled_false(self) -> np.ndarray:
        return self._resampled(self.false_ml)

    @cached_property
    def _resampled_share(self) -> np.ndarray:
        return self._resampled(self.found_share)

    def _found_at(self, at_ml: Sequence[float]) -> np.ndarray:
        return _at(self._resampled_false, self._resampled_share, at_ml)

    def _areas(self, up_to_ml: float) -> np.ndarray:
        return _area(self._resampled_false, self._resampled_share, up_to_ml)


def average_curves(curves: Sequence[OperatingCurve]) -> OperatingCurve:
    """Of seeds: each patient's mean at the cut-offs that all have.

    Raises:
        CurvesError: other numbers of patients.
    """
    if len({len(curve.false_ml) for curve in curves}) > 1:
        raise CurvesError(f"curves of {[len(curve.false_ml) for curve in curves]} patients; expected the same")
    common = sorted(set.intersection(*(set(curve.cutoffs.tolist()) for curve in curves)), reverse=True)
    places = [np.isin(curve.cutoffs, common) for curve in curves]
    means = [
        np.mean([getattr(curve, name)[:, place] for curve, place in zip(curves, places, strict=True)], axis=0)
        for name in ("false_ml", "found_share", "detected")
    ]
    return OperatingCurve(np.array(common), *means)


@dataclass(frozen=True)
class ChosenCutoff:
    """cutoff: above it a score is lesion. false_ml, found_share: means over the patients it was chosen on, there."""

    cutoff: float
    false_ml: float
    found_share: float


def choose_cutoff(curve: OperatingCurve, false_ml: float = AT_ML) -> ChosenCutoff:
    """The lowest cut-off whose mean false lesion volume is not above what is wanted; the strictest where all are.

    One rule for every model, on patients of validation: who is compared at such cut-offs is as careful as the others.
    """
    allowed = np.flatnonzero(curve.mean_false_ml <= false_ml)
    place = int(allowed[-1]) if len(allowed) else 0
    return ChosenCutoff(*(float(v[place]) for v in (curve.cutoffs, curve.mean_false_ml, curve.mean_found_share)))


@lru_cache(maxsize=1)
def _weights(patients: int) -> np.ndarray:
    """(1 + R, N): how often each patient counts, in truth and in R resamples, the same for every curve."""
    draws = np.random.default_rng(0).multinomial(patients, np.full(patients, 1 / patients), RESAMPLES)
    return np.concatenate([np.ones((1, patients)), draws])


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R, K): means over the patients that have a value, each counted as often as it was drawn; NaN where none was."""
    known = np.isfinite(values[:, 0])
    total = weights[:, known].sum(axis=1, keepdims=True)
    sums = weights[:, known] @ values[known]
    return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)


def _at(false: np.ndarray, share: np.ndarray, at_ml: Sequence[float]) -> np.ndarray:
    """(R, M): shares interpolated at false volumes, from (0, 0) where nothing is found."""
    pairs = zip(false, share, strict=True)
    return np.array([np.interp(at_ml, np.append(0.0, x), np.append(0.0, y)) for x, y in pairs])


def _area(false: np.ndarray, share: np.ndarray, up_to_ml: float) -> np.ndarray:
    """(R,): means of `_at` from 0 to a volume, by trapezoids between the cut-offs."""
    end = _at(false, share, [up_to_ml])
    nothing = np.zeros_like(end)
    x = np.concatenate([nothing, np.minimum(false, up_to_ml), nothing + up_to_ml], axis=1)
    y = np.concatenate([nothing, np.where(false <= up_to_ml, share, end), end], axis=1)
    areas: np.ndarray = np.trapezoid(y, x, axis=1) / up_to_ml
    return areas


def _interval(values: np.ndarray, patients: int) -> Interval:
    """Of the estimate, which stands first, and its resamples."""
    low, high = _ends(values[1:, None]) if patients > 1 else (np.array([np.nan]),) * 2
    return Interval(float(values[0]), float(low[0]), float(high[0]), patients)


def _ends(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = values[np.isfinite(values).all(axis=1)]
    if not len(known):
        return (np.full(values.shape[1], np.nan),) * 2
    low, high = np.percentile(known, [2.5, 97.5], axis=0)
    return low, high
