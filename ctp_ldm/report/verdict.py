"""What was found, in sentences that need no statistics: of lesions only, no claim that its interval does not bear."""

import math
from dataclasses import dataclass

from ctp_ldm.metrics import Interval
from ctp_ldm.report import wording
from ctp_ldm.report.differences import LEVEL
from ctp_ldm.report.study import Study


@dataclass(frozen=True)
class Question:
    """A column, and how people speak of a difference in it.

    column: of the table of patients.
    factor, decimals: from the column's unit to that of the sentences, and how it is printed.
    claim: of a difference; `amount` is without sign, `more` is more or fewer, and `low` and `high` are its ends.
    words: what `more` is for a positive and for a negative difference.
    doubt: what is not known where the interval includes no difference.
    unit: of the amounts.
    """

    column: str
    factor: float
    decimals: int
    claim: str
    words: tuple[str, str]
    doubt: str
    unit: str = ""


QUESTIONS = (
    Question(
        "detected_10ml",
        100,
        0,
        "Of 100 large lesions (10 mL or more), {arm} shows {amount} {more} (95 % interval {low} to {high}) than {base}",
        ("more", "fewer"),
        "It is not clear whether {arm} shows more or fewer of the large lesions (10 mL or more) than {base}: of 100",
    ),
    Question(
        "false_ml",
        1,
        1,
        "{arm} draws {amount} mL (95 % interval {low} to {high}) {more} false lesion per patient than {base}",
        ("more", "less"),
        "It is not clear whether {arm} draws more or less false lesion than {base}: per patient",
        " mL",
    ),
    Question(
        "lesion_dice",
        1,
        2,
        "Where there is a lesion, its outline on {arm} agrees {more} with the reference than on {base}: Dice {amount} "
        "(95 % interval {low} to {high}) {sign}",
        ("better", "worse"),
        "It is not clear whether lesions' outlines on {arm} agree better or worse with the reference than on {base}: "
        "Dice",
    ),
)


def verdict(study: Study) -> list[str]:
    """A sentence for each question that the study's method and the reference can answer."""
    if not study.others:
        return []
    arm = study.method
    told = [(question, study.difference(question.column, arm)) for question in QUESTIONS]
    return [_sentence(question, change, study) for question, change in told if change is not None]


def _sentence(question: Question, change: Interval, study: Study) -> str:
    arm, base = study.method, study.reference
    names = {"arm": arm.name, "base": base.name}
    mean, low, high = (question.factor * value for value in (change.mean, change.low, change.high))
    patients = f"{change.patients} patient{'s' if change.patients != 1 else ''}"
    if math.isnan(low) or math.isnan(high):
        return f"{question.doubt.format(**names)} there is no interval of {patients}."
    if not (low > 0 or high < 0):
        ends = " to ".join(_signed(end, question, question.decimals) for end in (low, high))
        return f"{question.doubt.format(**names)} the difference lies from {ends} (95 % interval; {patients})."
    p = study.tests.get((arm.name, question.column), 0.0)
    if p > LEVEL:
        decimals = _decimals(min(abs(low), abs(high)), question.decimals)
        ends = f"from {_signed(low, question, decimals)} to {_signed(high, question, decimals)}"
        return (
            f"{question.doubt.format(**names)} the difference lies {ends} (95 % interval; {patients}), but of "
            f"{len(study.tests)} comparisons one may be so by chance (p = {wording.p_value(p)}, Holm)."
        )
    up = low > 0
    near, far = (low, high) if up else (-high, -low)
    decimals = _decimals(near, question.decimals)
    amount, near_text, far_text = (wording.number(value, decimals) for value in (abs(mean), near, far))
    claim = question.claim.format(
        **names,
        amount=amount,
        low=near_text,
        high=far_text,
        more=question.words[0 if up else 1],
        sign="higher" if up else "lower",
    )
    return f"{claim} ({patients}){_reserve(question, change, study)}."


def _reserve(question: Question, change: Interval, study: Study) -> str:
    """What has to be said where less is no gain, because less of the lesions is found too."""
    metric, found = study.metric(question.column), study.finds(study.method)
    if not metric.beside_found or change.low > 0:
        return ""
    told = {
        "less": ", but finds less of the lesions: that is no gain",
        "unknown": "; whether it finds the lesions is not known, for no patient has one",
    }
    return told.get(found, "")


def _signed(value: float, question: Question, decimals: int) -> str:
    """One end of an interval around no difference: "4 fewer", "0", "3 more"."""
    text = wording.number(abs(value), decimals)
    if float(text) == 0:
        return f"{text}{question.unit}"
    more, less = ("higher", "lower") if question.words[0] == "better" else question.words
    return f"{text}{question.unit} {more if value > 0 else less}"


def _decimals(near: float, decimals: int) -> int:
    """As many that the end next to no difference is not printed as none."""
    while decimals < 4 and float(f"{near:.{decimals}f}") == 0:
        decimals += 1
    return decimals
