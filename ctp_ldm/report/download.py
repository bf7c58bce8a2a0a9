"""The list of cases as a file for spreadsheets, and where a case's NIfTI files lie."""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ctp_ldm.report.study import Study

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula, the wide letters of East Asian keyboards among it."""


def safe_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula: OWASP's apostrophe before what could begin one."""
    return f"'{text}" if text.startswith(FORMULA) else text


def case_csv(table: Mapping[str, Any]) -> str:
    """The page's list of cases (`rows.case_list`) as CSV: a line for each case, a column for each metric and arm."""
    units = ["mL", *(group["unit"] for group in table["groups"][1:] for _ in range(group["span"]))]
    full = [column["full"] for column in table["columns"]]
    heading = ["case", *(f"{name}, {unit}" if unit else name for name, unit in zip(full, units, strict=True))]
    buffer = io.StringIO(newline="")
    # A byte order mark: without it spreadsheets read names in the letters of their own country.
    buffer.write("\N{ZERO WIDTH NO-BREAK SPACE}")
    writer = csv.writer(buffer)
    writer.writerow([safe_cell(name) for name in heading])
    for row in table["rows"]:
        # A negative number is a number.
        writer.writerow([safe_cell(row["case"]), *(cell["value"] for cell in row["cells"])])
    return buffer.getvalue()


def nifti_links(study: Study, case: str, page: Path) -> list[tuple[str, str]]:
    """(arm's run and file, address from the page) of a case's predictions that lie beside the report.

    Only runs below the folder that the report lies in: whoever moves that folder moves both, and no address says where
    it was.

    Args:
        study: of the runs.
        case: name.
        page: of the case, in the report's folder cases/.
    """
    folder = page.parent.resolve()
    tree = folder.parent.parent
    links = []
    for run in (run for arm in study.arms for run in arm.runs):
        place = (run.folder / "predictions" / case).resolve()
        if place.is_relative_to(tree):
            for file in sorted(place.glob("*.nii.gz")):
                address = quote(Path(os.path.relpath(file, folder)).as_posix())
                links.append((f"{run.folder.name}: {file.name}", address))
    return links
