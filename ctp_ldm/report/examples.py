"""Patients that stand for all in a figure, chosen by a rule that is told with them."""

from dataclasses import dataclass

import pandas as pd

from ctp_ldm.metrics.lesions import DETECTED_SHARE, LARGE_ML
from ctp_ldm.report.ranking import Ranking, rank
from ctp_ldm.report.study import Study


@dataclass(frozen=True)
class Examples:
    """Patients by what they are examples of, such as "missed", and the rule in sentences."""

    cases: dict[str, str]
    rule: str


def choose_examples(study: Study) -> Examples:
    """A lesion that was found, one that was missed, and a patient without: judged by the study's last arm.

    Where nobody looked for lesions, the errors in them choose; where there are none, the first metric that ranks.
    """
    lesions, judge = study.volumes_ml, study.arms[-1]
    if not (lesions > 0).any():
        return _by_rank(study, rank(study))
    if "detected" in judge.patients:
        return _by_lesion(judge.name, judge.patients)
    return _by_error(study, rank(study), [str(case) for case in lesions.index[lesions == 0]])


def _by_lesion(arm: str, patients: pd.DataFrame) -> Examples:
    reference, outside = patients["reference_ml"], patients["false_ml"]
    lesion, free = reference > 0, reference == 0
    found = lesion & (patients["detected"] == 1)
    large, missed = found & (reference >= LARGE_ML), lesion & ~found
    enough, cases = f"at least {DETECTED_SHARE:.0%} of the volume".replace("%", " %"), {}
    said = [f"Patients are chosen by what was found on images of {arm}"]
    if large.any():
        cases["found"] = _median(reference[large])
        said.append(f"found: the median of lesions of at least {LARGE_ML:g} mL of which {enough} was found")
    elif found.any():
        cases["found"] = _median(reference[found])
        said.append(
            f"found: no lesion of at least {LARGE_ML:g} mL was, so the median of smaller ones of which {enough} was"
        )
    else:
        said.append(f"found: no lesion of which {enough} was found")
    if missed.any():
        cases["missed"] = str(reference[missed].sort_index().idxmax())
        said.append("missed: the largest lesion of which less was found")
    else:
        said.append("missed: no lesion was")
    if free.any():
        cases["lesion-free"] = _median(outside[free])
        said.append("lesion-free: the patient with the median volume found where there is no lesion")
    else:
        said.append("lesion-free: no patient is")
    return Examples(cases, _sentences(said))


def _by_error(study: Study, ranking: Ranking, free: list[str]) -> Examples:
    ranked = ranking.ranked[::-1]
    cases = {"smallest error": ranked[0], "median error": ranked[(len(ranked) - 1) // 2]} if ranked else {}
    said = [f"No segmenter looked for lesions: patients with the smallest and the median {_metric(study, ranking)}"]
    if free:
        cases["lesion-free"] = min(free)
        said.append("lesion-free: the first by name")
    return Examples(_once(cases), _sentences(said))


def _by_rank(study: Study, ranking: Ranking) -> Examples:
    ranked = ranking.ranked
    if not ranked:
        return Examples({"first": study.cases[0]}, "No metric ranks the patients: shown is the first by name.")
    cases = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
    said = f"No patient has a lesion: patients chosen by {_metric(study, ranking)}, the worst, the median and the best"
    return Examples(_once(cases), f"{said}.")


def _metric(study: Study, ranking: Ranking) -> str:
    return f"{study.metric(ranking.column).title} of {ranking.arm.name}"


def _median(values: "pd.Series[float]") -> str:
    """Whose value is the median, of an even number the lower one; the first by name of those who share it."""
    ordered = values.sort_index().sort_values(kind="stable")
    return str(ordered.index[(len(ordered) - 1) // 2])


def _once(cases: dict[str, str]) -> dict[str, str]:
    """Without patients that came before."""
    return {kind: case for kind, case in cases.items() if case not in list(cases.values())[: list(cases).index(kind)]}


def _sentences(parts: list[str]) -> str:
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)
