"""The cut-off that lesions are found with: the segmenter's own, a number, or what a rule chose in validation."""

import json
import math
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ctp_ldm.metrics.curves import ChosenCutoff, OperatingCurve, choose_cutoff
from ctp_ldm.paths import sha256, shown_path
from ctp_ldm.runs import write_text

VALIDATED = "validated"
RULE = "the lowest cut-off whose mean false lesion volume over validation patients is not above what is wanted"


class CutoffError(ValueError):
    """A cut-off that is none, or that was chosen for something else than what is tested."""


def file_record(path: str | Path | None) -> dict[str, str] | None:
    """`path` and `sha256` of a file; None of none."""
    if path is None:
        return None
    return {"path": shown_path(path), "sha256": sha256(Path(path))}


def keep_cutoff(
    run: Path, curve: OperatingCurve, wanted_ml: float, segmenter: Path | None, checkpoint: str | Path | None
) -> ChosenCutoff:
    """Choose by the rule and write `validation/cutoff.json` in a run's folder.

    Args:
        run: the folder.
        curve: of the validation patients.
        wanted_ml: mean false lesion volume over them.
        segmenter: checkpoint that read the images; None where the model finds lesions itself.
        checkpoint: of the model that was validated; None where there is nothing to load.
    """
    chosen = choose_cutoff(curve, wanted_ml)
    content = {
        "cutoff": chosen.cutoff,
        "rule": RULE,
        "wanted_false_ml": wanted_ml,
        "false_ml": chosen.false_ml,
        "sensitivity": None if math.isnan(chosen.found_share) else chosen.found_share,
        "patients": len(curve.false_ml),
        "segmenter": file_record(segmenter),
        "checkpoint": file_record(checkpoint),
    }
    write_text(_path(run), json.dumps(content, indent=1, allow_nan=False))
    rank_zero_info(
        f"cut-off {chosen.cutoff:.4g} gives {chosen.false_ml:.3g} of the wanted {wanted_ml:g} mL of false lesion over "
        f"{len(curve.false_ml)} validation patients; ctp-ldm test uses it with --cutoff {VALIDATED}"
    )
    if chosen.false_ml > wanted_ml:
        rank_zero_warn(f"even the strictest cut-off gives more false lesion than the wanted {wanted_ml:g} mL")
    return chosen


def read_cutoff(run: Path, segmenter: Path | None, checkpoint: str | Path | None) -> float:
    """What `keep_cutoff` chose, for the same segmenter and checkpoint.

    Raises:
        CutoffError: it is missing, damaged, or was chosen for another segmenter or checkpoint.
    """
    path = _path(run)
    again = "run ctp-ldm validate with these arguments"
    if not path.is_file():
        raise CutoffError(f"cutoff is {VALIDATED}, and {path} is missing: {again} first")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        cutoff = float(content["cutoff"])
        records = {name: content[name] for name in ("segmenter", "checkpoint")}
        theirs = {name: record and record["sha256"] for name, record in records.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise CutoffError(f"{path} cannot be read ({error!r}): {again} to write it anew") from error
    for name, given in {"segmenter": segmenter, "checkpoint": checkpoint}.items():
        ours = file_record(given)
        if theirs[name] != (ours and ours["sha256"]):
            raise CutoffError(
                f"the cut-off in {path} was chosen with another {name} ({(records[name] or {}).get('path')}, here "
                f"{given}): {again}"
            )
    return cutoff


def require_cutoff(cutoff: float | str) -> float:
    """A number above 0 and below 1.

    Raises:
        CutoffError: any other.
    """
    if isinstance(cutoff, str) or not 0 < cutoff < 1:
        raise CutoffError(f"cutoff is {cutoff}; expected a number above 0 and below 1, {VALIDATED}, or null")
    return cutoff


def _path(run: Path) -> Path:
    return run / "validation" / "cutoff.json"
