"""Means of arms and paired differences between them, each with its interval: the numbers of every table."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ctp_ldm.metrics import (
    FOUND,
    Difference,
    Finds,
    Interval,
    bootstrap_mean,
    chains_difference,
    chains_mean,
    finds,
    holm,
    proportion,
)
from ctp_ldm.report.arms import Arm

PATIENT = ("lesion_ml", "lesion_voxels", "reference_ml", "ms_ssim_scales")
"""Columns that describe a patient, not what a model made of it."""
CEILING = (
    *("lesion_dice_real", "false_real_ml", "found_real_ml", "dice_real"),
    *("ap_dwi_real", "cnr_dwi_real", "ap_adc_real", "cnr_adc_real", "dwi_ratio_real"),
)
"""Columns of the real image: what there is to reach, the same for every model."""
SHARES = ("detected", "detected_10ml", "any_false_free", "crosses_25", "crosses_70")
"""Columns that are yes or no: the bootstrap would give those that all patients agree on an interval of no width."""

LEVEL = 0.05
"""Of the adjusted tests."""


def compare_arms(arms: Sequence[Arm], reference: Arm) -> pd.DataFrame:
    """A row for each metric and arm that has it; seeds are averaged per patient, intervals are over patients and seeds.

        metric, run, patients, seeds
        mean, low, high                                 mean over patients and its 95 % interval (`chains_mean`);
                                                        Wilson's for shares of patients that all seeds agree on
        seed_deviation                                  SD of the mean over seeds; NaN for one seed
        difference, difference_low, difference_high     mean over patients of arm − reference, and its interval
                                                        (`chains_difference`); NaN where there is nothing to compare
        pairs, left_out                                 patients in the difference; those that one of the two alone has
                                                        a value of
        finds                                           whether the arm finds less of the lesions than the reference
                                                        (`arm_finds`)
        spread                                          SD over patients of the reference's values

    Args:
        arms: on the same patients (`require_comparable`).
        reference: one of them.
    """
    columns = list(dict.fromkeys(column for arm in arms for column in arm.patients))
    pairs = [(c, arm) for c in columns if c not in PATIENT for arm in arms if c in arm.patients]
    found = {arm.name: arm_finds(arm, reference) for arm in arms}
    return pd.DataFrame([_row(column, arm, reference) | {"finds": found[arm.name]} for column, arm in pairs])


def primary_tests(arms: Sequence[Arm], reference: Arm, metrics: Sequence[str]) -> dict[tuple[str, str], float]:
    """(arm, metric) → two-sided p-value of the paired difference from the reference, adjusted for all of them (Holm).

    Adjusted for are the comparisons that come back: every arm but the reference in every metric that both have, in the
    order of arms, then of metrics. The tests are those of the intervals, see `chains_difference`.

    Args:
        arms: on the same patients.
        reference: one of them.
        metrics: the primary ones, named before any result was seen.
    """
    found = {}
    for arm in arms:
        for metric in metrics:
            if arm is not reference and metric in arm.patients and metric in reference.patients:
                p = arm_difference(metric, arm, reference).p
                if not math.isnan(p):  # one patient tests nothing
                    found[arm.name, metric] = p
    adjusted = holm({f"{i}": p for i, p in enumerate(found.values())})
    return dict(zip(found, adjusted.values(), strict=True))


def interval(column: str, values: Sequence[float]) -> Interval:
    """Mean over patients; Wilson's interval for a share, unless seeds disagree on a patient."""
    return proportion(values) if _is_share(column, values) else bootstrap_mean(values)


def arm_mean(column: str, arm: Arm) -> Interval:
    """The same over patients and seeds."""
    values = arm.patients[column].tolist()
    return proportion(values) if _is_share(column, values) else chains_mean(arm.chains(column))


def arm_difference(column: str, arm: Arm, reference: Arm) -> Difference:
    """Mean over patients of arm − reference, over patients and seeds."""
    return chains_difference(arm.chains(column), reference.chains(column))


def arm_finds(arm: Arm, reference: Arm) -> Finds:
    """`finds`, by the first column of `FOUND` that both have; unknown where there is none."""
    column = next((c for c in FOUND if c in arm.patients and c in reference.patients), None)
    if column is None:
        return "unknown"
    both = all("lesion_dice" in one.patients for one in (arm, reference))
    dice = arm_difference("lesion_dice", arm, reference) if both else None
    return finds(arm.chains(column), reference.chains(column), dice)


def left_out(column: str, arm: Arm, reference: Arm) -> int:
    """Patients in whom one of the two alone has a value."""
    return int((arm.patients[column].isna() != reference.patients[column].isna()).sum())


def interval_note(arms: Sequence[Arm]) -> str:
    """What the intervals are over, and by which method: below every table."""
    single = [arm.name for arm in arms if len(arm.runs) == 1]
    if len(single) == len(arms):
        return (
            "Intervals are over patients only: one training each; what another training would give is not in them. "
            "Those of means are bootstrap intervals, those of differences t intervals."
        )
    several = (
        "Intervals are over patients and trainings, crossed random effects: t with Satterthwaite's degrees of freedom. "
        "In simulations those of three trainings held the truth in 93 to 99 %, of two in 88 to 99 %."
    )
    return f"{several} Patients only, one training: {', '.join(single)}." if single else several


def _is_share(column: str, values: Sequence[float]) -> bool:
    return column in SHARES and {v for v in values if not math.isnan(v)} <= {0.0, 1.0}


def _row(column: str, arm: Arm, reference: Arm) -> dict[str, Any]:
    mean = arm_mean(column, arm)
    row = {
        "metric": column,
        "run": arm.name,
        "patients": mean.patients,
        "seeds": len(arm.runs),
        "mean": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "seed_deviation": arm.seed_deviation[column],
    }
    change, spread, lacking = Interval(math.nan, math.nan, math.nan, 0), math.nan, 0
    if column in reference.patients and column not in CEILING:
        change, spread = arm_difference(column, arm, reference), float(reference.patients[column].std(ddof=1))
        lacking = left_out(column, arm, reference)
    return {
        **row,
        "difference": change.mean,
        "difference_low": change.low,
        "difference_high": change.high,
        "pairs": change.patients,
        "left_out": lacking,
        "spread": spread,
    }
