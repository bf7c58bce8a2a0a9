"""`ctp-ldm report`."""

from pathlib import Path
from typing import Literal

from ctp_ldm.report import write_report


def report(
    runs: list[Path],
    out: Path = Path("report"),
    reference: str | None = None,
    cases: int | Literal["all"] = 50,
    title: str = "CT perfusion to diffusion MRI",
) -> None:
    """Write a folder of pages about tested runs: tables, figures, and every case's images to look through.

    It opens from disk, without network: OUT/index.html. Runs whose names differ in a trailing -seed<N> are averaged.

    Args:
        runs: run folders, the reference first; each has been through `ctp-ldm test`.
        out: folder to write; an earlier report in it is replaced.
        reference: name of the run that others are compared with, where it is not the first.
        cases: how many get their images shown, worst, median and best; or all.
        title: of the page.
    """
    if cases != "all" and cases < 0:
        raise ValueError(f"--cases {cases}; expected a number of cases, 0 for none, or all")
    page = write_report(runs, out, reference, None if cases == "all" else cases, title)
    print(f"report: {page}")
