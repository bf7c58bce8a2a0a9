"""Table and figure of a study or an ablation, written beside the parts that they are made from."""

from collections.abc import Mapping
from pathlib import Path

from ctp_ldm.experiments.figure import draw
from ctp_ldm.experiments.protocol import Ablation
from ctp_ldm.experiments.results import read_arm
from ctp_ldm.experiments.study import Study
from ctp_ldm.experiments.table import ablation_markdown, markdown
from ctp_ldm.report.arms import require_comparable
from ctp_ldm.runs import write_text

DRAWN = ("lesion_dice", "false_ml", "lesion_mae_adc", "brain_mae_adc")


def write_pages(study: Study) -> tuple[Path, Path]:
    """`table.md` and `figure.png` of all parts that are there."""
    arms, protocol = study.arms(), study.protocol
    table, figure = study.root / "table.md", study.root / "figure.png"
    write_text(table, markdown(protocol, arms))
    ours = [f"{family}-{protocol.primary.ours}" for family in protocol.families]
    draw(arms, [protocol.parts[arm.name].title for arm in arms], DRAWN, ours, figure)
    return table, figure


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
    write_text(table, ablation_markdown(ablation, arms, study.protocol.columns))
    draw(arms, [arm.name for arm in arms], DRAWN, [arms[0].name], figure)
    return table, figure
