"""How far apart the MRI's own slices were, where a patient's targets were brought to the grid of a CT."""

from ctp_ldm.data.cases import Case
from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.task import Task
from ctp_ldm.data.timing import read_sidecar, sidecar_of

KEYS = ("SpacingBetweenSlices", "SliceThickness")
FARTHEST_MM = 20.0
DIFFERENT = 0.05


def mri_slices(case: Case, task: Task) -> tuple[float | None, list[str]]:
    """What the JSON files beside the targets say: `SpacingBetweenSlices`, else `SliceThickness`.

    Args:
        case: the files.
        task: which of them are targets.

    Returns:
        mm, the largest where targets differ, None where nothing is said; and remarks, such as that they differ or that
        what is said cannot be.
    """
    found: dict[str, float] = {}
    remarks = []
    for role in (role for role in task.targets if role in case.files):
        sidecar = sidecar_of(case.files[role])
        try:
            content = read_sidecar(sidecar)
        except DataFault:
            remarks.append(f"{role}: {sidecar.name} cannot be read, so the MRI's own slices are not known")
            continue
        key = next((key for key in KEYS if key in content), None)
        if key is None:
            continue
        said = content[key]
        if isinstance(said, bool) or not isinstance(said, int | float) or not 0 < said <= FARTHEST_MM:
            remarks.append(
                f"{role}: {key} is {str(said)[:40]} in {sidecar.name}; expected mm above 0 and at most "
                f"{FARTHEST_MM:g}, so the MRI's own slices are not known"
            )
            continue
        found[role] = float(said)
    if not found:
        return None, remarks
    widest = max(found.values())
    if widest - min(found.values()) > DIFFERENT * widest:
        each = ", ".join(f"{role} {mm:g}" for role, mm in found.items())
        remarks.append(f"the MRI's own slices are {each} mm apart by their sidecars: {widest:g} mm is taken")
    return widest, remarks
