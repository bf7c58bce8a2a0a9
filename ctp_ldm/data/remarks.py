"""What is odd about a case and does not forbid its use: the same words in `check`, `prepare` and `predict`."""

from collections.abc import Iterable, Mapping
from typing import Any

from ctp_ldm.data.mirror import is_elsewhere

MOTION_MM = 3.0
COVERED = 0.95
NEGATIVE = 0.05
LESION_IN_BRAIN = 0.9


def remarks_on(facts: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Remarks on the facts of a case (groups of plain values, as `load_case` collects them)."""
    for role, found in facts.items():
        if found.get("motion", 0.0) > MOTION_MM:
            yield f"{role}: the head moves by {found['motion']:.1f} mm during the scan"
        if found.get("cut_off") is not None:
            yield f"{role}: is cut off at {found['cut_off']:.4g} HU, as by a window"
        if found.get("covered", 1.0) < COVERED:
            yield f"{role}: is 0 in {1 - found['covered']:.0%} of the brain"
        if found.get("negative", 0.0) > NEGATIVE:
            yield f"{role}: is negative in {found['negative']:.0%} of the brain"
    if facts.get("brain", {}).get("cut"):
        yield "the brain reaches the edge of the field of view"
    if not facts.get("lesion", {}).get("binary", True):
        yield "the lesion file is no mask of two values: what is above half of its maximum counts as lesion"
    inside = facts.get("lesion", {}).get("in_brain")
    if inside is not None and inside < LESION_IN_BRAIN:
        yield f"{1 - inside:.0%} of the lesion lies outside the brain"
    mirror = facts.get("mirror")
    if mirror is not None and is_elsewhere(mirror["adc"], mirror["dwi"]):
        yield f"lesion: ADC {mirror['adc']:.0%}, DWI {mirror['dwi']:.0%} of the mirror site: a flipped or shifted mask?"
