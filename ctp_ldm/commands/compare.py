"""`ctp-ldm compare`."""

from pathlib import Path

from ctp_ldm.report import compare_runs


def compare(runs: list[Path], out: Path = Path("comparison")) -> None:
    """Put tested runs on the same patients side by side: paired differences with intervals, one figure.

    Args:
        runs: run folders, the reference first; each has been through `ctp-ldm test`.
        out: folder for comparison.csv, comparison.md, curves.png where runs have curves and, where every run has what
            it shows, comparison.png.
    """
    compare_runs(runs, out)
