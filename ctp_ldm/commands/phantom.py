"""`ctp-ldm phantom`."""

from pathlib import Path
from typing import Literal

from ctp_ldm.phantom import write_phantom


def phantom(
    out: Path, cases: int = 20, seed: int = 0, size: Literal["tiny", "small", "full"] = "small", workers: int = 2
) -> None:
    """Write an ISLES'24-style tree of simulated patients.

    Args:
        out: folder, made when missing; an interrupted run goes on.
        cases: number of patients.
        seed: the same seed gives the same voxels.
        size: tiny for tests, small for the demo, full for the published grid.
        workers: processes.
    """
    write_phantom(out, cases=cases, seed=seed, size=size, workers=workers)
    print(f"{cases} simulated patients: {out}")
