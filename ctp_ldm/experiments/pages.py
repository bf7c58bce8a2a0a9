"""Table and figure of a study or an ablation, written beside the parts that they are made from."""

from collections.abc import Mapping
from pathlib import Path

from ctp_ldm.experiments.ablations import Ablation
from ctp_ldm.experiments.figure import draw
from ctp_ldm.experiments.protocol import Protocol
from ctp_ldm.experiments.results import read_arm
from ctp_ldm.experiments.study import Study
from ctp_ldm.experiments.table import ablation_markdown, markdown
from ctp_ldm.report.arms import require_comparable
from ctp_ldm.report.curves import ArmCurve, curves_markdown, draw_curves, read_curves
from ctp_ldm.runs import write_text

DRAWN = ("lesion_dice", "false_ml", "lesion_mae_adc", "brain_mae_adc")


def write_pages(study: Study) -> tuple[Path, Path]:
    """`table.md` and `figure.png` of all parts that are there; `curves.png` where what they find was kept."""
    arms, protocol = study.arms(), study.protocol
    table, figure = study.root / "table.md", study.root / "figure.png"
    ours = [f"{family}-{protocol.primary.ours}" for family in protocol.families]
    # Differences of curves are from the first.
    curves, lacking = read_curves(sorted(arms, key=lambda arm: arm.name not in ours[:1]))
    titled = {protocol.parts[name].title: curve for name, curve in curves.items()}
    write_text(table, f"{markdown(protocol, arms)}\n{curves_markdown(titled, lacking)}")
    draw_curves(_panels(protocol, curves), study.root / "curves.png")
    draw(arms, [protocol.parts[arm.name].title for arm in arms], DRAWN, ours, figure)
    return table, figure


def _panels(protocol: Protocol, curves: Mapping[str, ArmCurve]) -> dict[str, dict[str, ArmCurve]]:
    """Title → curves by title: the arms of each family, and all that belongs to none."""
    panels: dict[str, dict[str, ArmCurve]] = {family.title: {} for family in protocol.families.values()}
    for name in [name for name in protocol.parts if name in curves]:
        title = protocol.parts[name].title
        family, _, arm = title.partition(": ")
        place, label = (family, arm) if family in panels else ("rivals and ceilings", title)
        panels.setdefault(place, {})[label] = curves[name]
    return panels


def write_ablation(study: Study, name: str, ablation: Ablation, judged: Mapping[str, str]) -> tuple[Path, Path] | None:
    """`ablations/<name>.md` and `.png` of the variants that are there; None without the first of them.

    Args:
        judged: label → part, see `Ablation.parts`.
    """
    paths = {label: study.place.result(part, 0) for label, part in judged.items()}
    arms = [read_arm(label, [path]) for label, path in paths.items() if path.is_file()]
    if not paths[next(iter(judged))].is_file():
        return None
    require_comparable(arms)
    folder = study.root / "ablations"
    table, figure = folder / f"{name}.md", folder / f"{name}.png"
    curves = curves_markdown(*read_curves(arms))
    write_text(table, f"{ablation_markdown(ablation, arms, study.protocol.columns)}\n{curves}")
    draw(arms, [arm.name for arm in arms], DRAWN, [arms[0].name], figure)
    return table, figure
