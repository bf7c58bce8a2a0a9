"""`ctp-ldm reproduce`."""

from pathlib import Path
from typing import Literal

import torch

from ctp_ldm.experiments import Study, read_protocol, write_pages

SizeName = Literal["small", "standard"]
OUT = Path("runs/reproduce")


def default_size() -> SizeName:
    """What the machine can do."""
    return "standard" if torch.cuda.is_available() else "small"


def reproduce(
    out: Path = OUT,
    size: SizeName | None = None,
    parts: list[str] | None = None,
    seeds: int | None = None,
    patients: Literal["final", "development"] = "final",
    jobs: int | None = None,
    protocol: Path | None = None,
    table_only: bool = False,
) -> None:
    """Make or resume the project's main table, part by part: configs/reproduce/protocol.yaml says what is in it.

    An interrupted study goes on where it was when the same command is given again. One JSON for each part, table.md,
    figure.png and curves.png lie in OUT/SIZE/PATIENTS.

    Args:
        out: folder of everything.
        size: small (two CPU cores) or standard (one GPU); what the machine can do unless given.
        parts: only these, and what they start from.
        seeds: only the first of each part's.
        patients: those of the table, or those that decisions are made on.
        jobs: parts that run side by side.
        protocol: a study of your own, in the form of the shipped one.
        table_only: make table and figures from the files of parts that are there, and run nothing.
    """
    declared, size = read_protocol(protocol), size or default_size()
    unknown = sorted(set(parts or ()) - set(declared.parts))
    if unknown:
        raise ValueError(f"--parts {', '.join(unknown)}; expected some of {', '.join(declared.parts)}")
    if size not in declared.sizes:
        raise ValueError(f"--size {size}; the protocol has {', '.join(declared.sizes)}")
    for name, number in (("jobs", jobs), ("seeds", seeds)):
        if number is not None and number < 1:
            raise ValueError(f"--{name} {number}; expected 1 or more")
    study = Study(declared, size, patients, out / size / patients, jobs, seeds)
    if not table_only:
        study.make(parts or declared.parts)
    elif not study.arms():
        raise ValueError(f"{study.root} holds no part; run ctp-ldm reproduce without --table_only first")
    table, figure = write_pages(study)
    if (curves := study.root / "curves.png").is_file():
        print(f"operating curves: {curves}")
    print(f"table: {table}\nfigure: {figure}\none JSON for each part: {study.root / 'parts'}")
