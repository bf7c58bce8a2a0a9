"""What is odd about a case and does not forbid its use: the same words in `check`, `prepare` and `predict`."""

from collections.abc import Iterable, Mapping
from typing import Any

from ctp_ldm.data.brain import RIM_MM
from ctp_ldm.data.mirror import is_elsewhere

MOTION_MM = 3.0
COVERED = 0.95
NEGATIVE = 0.05
LESION_IN_BRAIN = 0.9
LEAST_WATER_ADC = 1700.0
"""10⁻⁶ mm²/s: even where voxels are as large as ventricles, half of one is water, which has 3000."""
DARKEST_FLUID = 0.08
"""Times tissue; at b = 1000 s/mm² it has 0.1 or more."""
FLUID_LESION = 0.5
BASELINE_HU = (24.0, 48.0)
"""In the median of brains before contrast, grey and white matter and fluid together."""


def remarks_on(facts: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Remarks on the facts of a case (groups of plain values, as `load_case` collects them)."""
    for role, found in facts.items():
        if found.get("motion", 0.0) > MOTION_MM:
            yield f"{role}: the head moves by {found['motion']:.1f} mm during the scan"
        if found.get("cut_off") is not None:
            yield f"{role}: is cut off at {found['cut_off']:.4g} HU, as by a window"
        if str(found.get("unit")).startswith("HU") and not BASELINE_HU[0] <= found["median"] <= BASELINE_HU[1]:
            yield f"{role}: {found['median']:.1f} HU in the brain before contrast: another unit or scale?"
        if found.get("covered", 1.0) < COVERED:
            yield f"{role}: is 0 in {1 - found['covered']:.0%} of the brain ({RIM_MM:g} mm at its edge left out)"
        if found.get("negative", 0.0) > NEGATIVE:
            yield f"{role}: is negative in {found['negative']:.0%} of the brain"
        if found.get("highest", LEAST_WATER_ADC) < LEAST_WATER_ADC:
            yield f"{role}: at most {found['highest']:.0f} × 10⁻⁶ mm²/s in fluid, which has 3000"
        if role != "lesion" and found.get("fluid", 1.0) < DARKEST_FLUID:
            yield f"{role}: fluid has {found['fluid']:.0%} of the signal of tissue: of a b far above 1000?"
    if facts.get("brain", {}).get("cut"):
        yield "the brain reaches the edge of the field of view"
    if not facts.get("lesion", {}).get("binary", True):
        yield "the lesion file is no mask of two values: what is above half of its maximum counts as lesion"
    inside = facts.get("lesion", {}).get("in_brain")
    if inside is not None and inside < LESION_IN_BRAIN:
        yield f"{1 - inside:.0%} of the lesion lies outside the brain"
    if facts.get("lesion", {}).get("fluid", 0.0) > FLUID_LESION:
        yield f"{facts['lesion']['fluid']:.0%} of the lesion is fluid by its ADC: a cavity or a ventricle?"
    mirror = facts.get("mirror")
    if mirror is not None and is_elsewhere(mirror["adc"], mirror["dwi"]):
        yield f"lesion: ADC {mirror['adc']:.0%}, DWI {mirror['dwi']:.0%} of the mirror site: a flipped or shifted mask?"
