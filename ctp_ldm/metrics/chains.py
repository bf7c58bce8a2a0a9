"""Intervals over patients and trainings: a difference that rests on one lucky training has a wide one.

A chain is one training with everything before it, from its own seed. A column of an arm is a table of values, a row for
each patient, a column for each chain, called by its seed; NaN where a value is not defined.

Patients and chains are drawn with replacement, independently of one another: the pigeonhole bootstrap of crossed
factors (Owen 2007; McCullagh 2000 on why none is exact). It cannot go beyond the chains that there are: of three its
interval is their range at most, so that where chains alone vary it holds the truth in 75 % (1 − 2/2³), not in 95 %.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ctp_ldm.metrics.statistics import RESAMPLES, Interval, bootstrap_mean, paired_difference, require_same


def chains_mean(values: pd.DataFrame, seed: int = 0) -> Interval:
    """Mean over patients of each one's mean over chains; with one chain `bootstrap_mean`.

    A patient's NaNs are left out, and patients who have nothing else.

    Args:
        values: (patients, chains).
        seed: of the resampling.
    """
    if values.shape[1] == 1:
        return bootstrap_mean(values.iloc[:, 0].tolist(), seed)
    return _two_levels([values.to_numpy(float)], False, seed)


def chains_difference(ours: pd.DataFrame, theirs: pd.DataFrame, seed: int = 0) -> Interval:
    """Mean over patients of ours − theirs, each one's mean over chains; with one chain each `paired_difference`.

    Patients are drawn as pairs. Chains are too where both sides have the same seeds: they may share what came before.
    Else each side's are drawn for themselves; a side with one chain keeps it, and says nothing of other trainings.

    Args:
        ours, theirs: (patients, chains), of the same patients.
        seed: of the resampling.

    Raises:
        StatisticsError: the patients differ.
    """
    if ours.shape[1] == theirs.shape[1] == 1:
        return paired_difference(ours.iloc[:, 0].to_dict(), theirs.iloc[:, 0].to_dict(), seed)
    require_same(set(ours.index), set(theirs.index), "patients")
    paired = set(ours.columns) == set(theirs.columns)
    cases = sorted(ours.index)
    ours, theirs = ours.loc[cases], theirs.loc[cases, list(ours.columns) if paired else list(theirs.columns)]
    return _two_levels([ours.to_numpy(float), theirs.to_numpy(float)], paired, seed)


def _two_levels(sides: Sequence[np.ndarray], paired: bool, seed: int) -> Interval:
    """Of one side's mean, or of the first's less the second's.

    Args:
        sides: (patients, chains) each.
        paired: whether the same chains are drawn of both.
        seed: of the resampling.
    """
    whole = _of_patients(sides, [np.ones(side.shape[1]) for side in sides])
    sides = [side[np.isfinite(whole)] for side in sides]
    whole = whole[np.isfinite(whole)]
    if len(whole) < 2:
        return bootstrap_mean(whole.tolist())
    random = np.random.default_rng(seed)
    patients = random.integers(len(whole), size=(RESAMPLES, len(whole)))
    drawn = [random.multinomial(k, np.full(k, 1 / k), RESAMPLES) for k in (side.shape[1] for side in sides)]
    if paired:
        drawn[1] = drawn[0]
    # Few chains have few ways to be drawn: each is worked out once.
    ways, way_of = np.unique(np.hstack(drawn), axis=0, return_inverse=True)
    means = np.empty(RESAMPLES)
    for i, way in enumerate(ways):
        values = _of_patients(sides, np.split(way, [sides[0].shape[1]]))
        chosen = values[patients[way_of == i]]
        means[way_of == i] = _quotient(np.nansum(chosen, axis=1), np.isfinite(chosen).sum(axis=1))
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return Interval(float(whole.mean()), float(low), float(high), len(whole))


def _of_patients(sides: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Each patient's weighted mean over chains, the first side's less the second's; NaN where none has a value.

    Args:
        sides: (patients, chains) each.
        weights: (chains,) for each side: how often a chain was drawn.
    """
    each = [_quotient(np.nan_to_num(v) @ w, np.isfinite(v) @ w) for v, w in zip(sides, weights, strict=False)]
    return each[0] - each[1] if len(each) > 1 else each[0]


def _quotient(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
