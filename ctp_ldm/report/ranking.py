"""Which patients went worst and best, and of which a report shows images."""

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import cycle

from ctp_ldm.report.arms import Arm
from ctp_ldm.report.study import Study


@dataclass(frozen=True)
class Ranking:
    """Patients by one metric of one arm.

    column, arm: which.
    ranked: patients, the worst first.
    unranked: those for whom the metric is not defined.
    """

    column: str
    arm: Arm
    ranked: list[str]
    unranked: list[str]


def rank(study: Study) -> Ranking:
    """By the first primary metric that has values, else by errors in the lesion, else in the brain.

    The arm is the study's method.
    """
    arm = study.method
    images = [f"{kind}_mae_{target}" for kind in ("lesion", "brain") for target in study.targets]
    judged = [c for c in study.metrics if c in arm.patients and study.metric(c).better is not None]
    wanted = [*(c for c in judged if study.metric(c).primary), *(c for c in images if c in judged), *judged]
    column = next((c for c in wanted if arm.patients[c].notna().any()), "")
    if not column:
        return Ranking("", arm, [], study.cases)
    values = {str(case): float(v) for case, v in arm.patients[column].items()}
    better = study.metric(column).better

    def badness(case: str) -> float:
        return -values[case] if better == "higher" else abs(values[case]) if better == "zero" else values[case]

    ranked = sorted((case for case in study.cases if not math.isnan(values[case])), key=badness, reverse=True)
    return Ranking(column, arm, ranked, [case for case in study.cases if math.isnan(values[case])])


def choose_cases(ranking: Ranking, count: int | None, able: Container[str]) -> list[str]:
    """The worst, the median and the best in turn, and some without rank, until there are enough; the worst first.

    Args:
        ranking: of all patients.
        count: how many; None for all.
        able: patients that can be chosen.
    """
    ranked = [case for case in ranking.ranked if case in able]
    unranked = [case for case in ranking.unranked if case in able]
    everyone = [*ranked, *unranked]
    if count is None or count >= len(everyone):
        return everyone
    middle = (len(ranked) - 1) / 2
    from_middle = [ranked[i] for i in sorted(range(len(ranked)), key=lambda i: abs(i - middle))]
    orders = [ranked, from_middle, ranked[::-1], unranked]
    chosen: set[str] = set()
    for order in cycle([iter(order) for order in orders if order]):
        if len(chosen) >= count:
            break
        chosen |= _next(order, chosen)
    return [case for case in everyone if case in chosen]


def _next(order: Iterator[str], chosen: set[str]) -> set[str]:
    return next(({case} for case in order if case not in chosen), set())
