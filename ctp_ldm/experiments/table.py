"""The table of all arms, and what has to be said about it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ctp_ldm.experiments.ablations import Ablation
from ctp_ldm.experiments.protocol import Protocol
from ctp_ldm.metrics import Difference, Metric, describe, holm, judgement, no_worse
from ctp_ldm.report.arms import Arm, require_comparable
from ctp_ldm.report.differences import CEILING, LEVEL, arm_difference, arm_finds, arm_mean, interval_note, left_out
from ctp_ldm.report.wording import NONE, p_value, value, with_interval

REALISM = "Fréchet distance, the reader's features ↓"
MORE_DECIMALS = 1
"""Of differences, which are smaller than what they are differences of."""


@dataclass(frozen=True)
class Comparison:
    """Ours against the control of a family, in one metric.

    family: its name.
    column: metric.
    difference: ours − control, over patients and seeds.
    p: of its t test, adjusted for all tests of superiority; None for a margin.
    margin: by which ours has to be no worse, in the metric's unit; None for superiority.
    holds: whether what the protocol asks for is shown: `judgement` says better and p is at most `LEVEL`; or the
        interval excludes a loss of the margin.
    """

    family: str
    column: str
    difference: Difference
    p: float | None
    margin: float | None
    holds: bool

    @property
    def finding(self) -> str:
        """In words. An interval that crosses the margin shows neither."""
        if self.margin is None:
            return "better" if self.holds else "not shown to be better"
        if self.holds:
            return "no worse"
        change, higher = self.difference, describe(self.column).better == "higher"
        lost = change.high <= -self.margin if higher else change.low >= self.margin
        return "worse by the margin or more" if lost else "not shown to be no worse"


def primary_comparisons(protocol: Protocol, arms: Sequence[Arm]) -> list[Comparison]:
    """Those of every family of which both arms are there.

    Holm's adjustment is over every family and metric of superiority; margins are of one metric each and not adjusted,
    for all of them have to hold.
    """
    by_name, primary = {arm.name: arm for arm in arms}, protocol.primary
    found = []
    pairs = {
        family: (by_name[f"{family}-{primary.ours}"], by_name[f"{family}-{primary.control}"])
        for family in protocol.families
        if {f"{family}-{primary.ours}", f"{family}-{primary.control}"} <= by_name.keys()
    }
    tests = {
        f"{family} {column}": arm_difference(column, *pair).p
        for family, pair in pairs.items()
        for column in primary.superior
    }
    adjusted = holm(tests)
    for family, pair in pairs.items():
        lesions = arm_finds(*pair)
        for column in primary.superior:
            change, p = arm_difference(column, *pair), adjusted[f"{family} {column}"]
            better = judgement(describe(column), change, lesions, left_out(column, *pair)) == "better"
            found.append(Comparison(family, column, change, p, None, better and p <= LEVEL))
        for column, margin in primary.no_worse.items():
            change = arm_difference(column, *pair)
            kept = no_worse(change, margin, describe(column).better == "higher")
            found.append(Comparison(family, column, change, None, margin, kept))
    return found


def markdown(protocol: Protocol, arms: Sequence[Arm]) -> str:
    """The whole page: primary comparisons, who is better than ours, and the table of all arms."""
    require_comparable(arms)
    comparisons = primary_comparisons(protocol, arms)
    parts = [
        f"{len(arms[0].patients)} test patients; mean [95 % interval], seeds averaged per patient. "
        f"{interval_note(arms)} Simulated patients: synthetic images, for research use.",
        "## Ours against its control",
        _primary(protocol, comparisons, arms),
        _how(protocol, comparisons),
        "\n\n".join(f"**{protocol.families[f].title}.** {_verdict(protocol, f, comparisons, arms)}"
                    for f in protocol.families if any(c.family == f for c in comparisons)),
        "## Who is better than ours",
        "By 95 % intervals that exclude 0; they are not adjusted for their number. Less false lesion counts only where "
        "no less of the lesions is found, or less with higher Dice.",
        "\n".join(_better(protocol, arms)),
        "## All arms",
        _all(protocol, arms),
        "SD: standard deviation of the mean over seeds. A dash: the arm has no such column, or it is not defined.",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _primary(protocol: Protocol, comparisons: Sequence[Comparison], arms: Sequence[Arm]) -> str:
    by_name = {arm.name: arm for arm in arms}
    lines = [["family", "metric", "ours − control", "of each seed", "p (Holm)", "asked for", "found"]]
    for c in comparisons:
        metric = describe(c.column)
        asked = "better" if c.margin is None else f"worse by less than {c.margin:g} {metric.unit}".strip()
        p = "" if c.p is None else p_value(c.p)
        change = with_interval(c.difference, metric.decimals + MORE_DECIMALS)
        title = protocol.families[c.family].title
        ours, control = (by_name[f"{c.family}-{arm}"] for arm in (protocol.primary.ours, protocol.primary.control))
        seeds = _of_each_seed(c.column, ours, control, metric.decimals + MORE_DECIMALS)
        lines.append([title, heading(metric), change, seeds, p, asked, c.finding])
    return _grid(lines)


def _how(protocol: Protocol, comparisons: Sequence[Comparison]) -> str:
    """What p and margins are, and over which comparisons p is adjusted."""
    tested = [c for c in comparisons if c.p is not None]
    if not tested:
        return ""
    metrics = ", ".join(dict.fromkeys(describe(c.column).title for c in tested))
    families = ", ".join(dict.fromkeys(protocol.families[c.family].title for c in tested))
    return (
        "p: two-sided t test of the interval, which excludes 0 where p before adjustment is below 0.05; adjusted by "
        f"Holm, from the least p on, over {len(tested)} comparisons: {metrics} of {families}. Better: p is at most "
        f"{LEVEL:g} and the interval excludes 0. No worse: the two-sided 95 % interval (a one-sided bound of 97.5 %) "
        "excludes a loss of the metric's own margin; what is not shown to be no worse is not thereby worse."
    )


def _of_each_seed(column: str, ours: Arm, theirs: Arm, decimals: int) -> str:
    """Differences of the mean over patients; said where the arms do not have the same seeds."""
    ours_of, theirs_of = (
        {run.folder.name.rpartition("-")[2]: float(run.patients[column].mean()) for run in arm.runs}
        for arm in (ours, theirs)
    )
    common = [seed for seed in ours_of if seed in theirs_of]
    told = ", ".join(value(ours_of[seed] - theirs_of[seed], decimals) for seed in common)
    return told if len(common) == len(ours_of) == len(theirs_of) else f"{told} (incomplete)"


def _verdict(protocol: Protocol, family: str, comparisons: Sequence[Comparison], arms: Sequence[Arm]) -> str:
    """In a sentence or two: what holds, what does not, and how large it is."""
    own = [c for c in comparisons if c.family == family]
    failed: dict[str, list[str]] = {}
    for c in own:
        if not c.holds:
            failed.setdefault(c.finding, []).append(describe(c.column).title)
    control = next(arm for arm in arms if arm.name == f"{family}-{protocol.primary.control}")
    sizes = []
    for c in own:
        if c.margin is None:
            metric, before = describe(c.column), float(control.patients[c.column].mean())
            share = f" ({_signed(100 * c.difference.mean / before, 0)} %)" if metric.unit and before else ""
            sizes.append(f"{metric.title} {_signed(c.difference.mean, metric.decimals)}{share}")
    told = "; ".join(sizes)
    missed = "; ".join(f"{finding}: {', '.join(titles)}" for finding, titles in failed.items())
    return f"{told}. " + (f"But {missed}." if missed else "All that the protocol asks for holds.")


def _signed(amount: float, decimals: int) -> str:
    return f"+{value(amount, decimals)}" if amount >= 0 else value(amount, decimals)


def _better(protocol: Protocol, arms: Sequence[Arm]) -> list[str]:
    """A line for each family: arms that are no ceiling and beat ours with an interval that excludes 0."""
    lines = []
    by_name = {arm.name: arm for arm in arms}
    for family, about in protocol.families.items():
        ours = by_name.get(f"{family}-{protocol.primary.ours}")
        if ours is None:
            continue
        found: dict[str, list[str]] = {}
        for arm in arms:
            title = protocol.parts[arm.name].title
            if arm is ours or title.startswith("ceiling"):
                continue
            lesions = arm_finds(arm, ours)
            for column in protocol.columns:
                if column not in arm.patients or column not in ours.patients:
                    continue
                metric, change = describe(column), arm_difference(column, arm, ours)
                if judgement(metric, change, lesions, left_out(column, arm, ours)) == "better":
                    told = with_interval(change, metric.decimals + MORE_DECIMALS)
                    found.setdefault(title, []).append(f"{metric.title} {told}")
        if found:
            lines.append(f"Than {about.title} with our terms, as differences from it:\n")
            lines += [f"- {title}: {'; '.join(columns)}" for title, columns in found.items()]
        else:
            lines.append(f"Nobody is better than {about.title} with our terms in any column.")
        lines.append("")
    return lines


def _all(protocol: Protocol, arms: Sequence[Arm]) -> str:
    columns = [c for c in protocol.columns if any(c in arm.patients for arm in arms)]
    lines = [["arm", "seeds", *(heading(describe(column)) for column in columns), REALISM]]
    for arm in arms:
        cells = [*(_cell(arm, column) for column in columns), _realism(arm)]
        lines.append([protocol.parts[arm.name].title, str(len(arm.runs)), *cells])
    return _grid(lines)


def _cell(arm: Arm, column: str) -> str:
    if column not in arm.patients or arm.patients[column].isna().all():
        return NONE
    decimals = describe(column).decimals
    told = with_interval(arm_mean(column, arm), decimals)
    deviation = arm.seed_deviation[column]
    return told if math.isnan(deviation) else f"{told} SD {deviation:.{decimals}f}"


def _realism(arm: Arm) -> str:
    """Fréchet distance of the reader's features, mean over seeds; it has no patients to take an interval over."""
    told = [(run.summary.get("over all slices") or {}).get("frechet_distance") for run in arm.runs]
    found = [distance for distance in told if isinstance(distance, float)]
    return value(sum(found) / len(found), 2) if found else NONE


def heading(metric: Metric) -> str:
    """Title, unit, and which way is better."""
    arrow = {"higher": " ↑", "lower": " ↓"}.get(metric.better or "", "")
    return f"{metric.title}{f' ({metric.unit})' if metric.unit else ''}{arrow}"


def _grid(lines: Sequence[Sequence[str]]) -> str:
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in rows)


def ablation_markdown(ablation: Ablation, arms: Sequence[Arm], columns: Sequence[str]) -> str:
    """A row for each variant: mean, and paired difference from the first."""
    first = arms[0]
    shown = [c for c in columns if all(c in arm.patients for arm in arms) and c not in CEILING]
    lines = [["variant", *(heading(describe(column)) for column in shown)]]
    for arm in arms:
        cells = []
        for column in shown:
            metric = describe(column)
            told = with_interval(arm_mean(column, arm), metric.decimals)
            if arm is not first:
                change = arm_difference(column, arm, first)
                mark = "**" if change.low > 0 or change.high < 0 else ""
                told += f"; {mark}{with_interval(change, metric.decimals + MORE_DECIMALS)}{mark}"
            cells.append(told)
        lines.append([arm.name, *cells])
    return (
        f"{ablation.question}\n\n{len(first.patients)} patients of development; mean [95 % interval]; "
        f"after the semicolon the paired difference from {first.name}, bold where its interval excludes 0. "
        f"{interval_note(arms)}\n\n"
        f"{_grid(lines)}\n"
    )
