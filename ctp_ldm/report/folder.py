"""The folder of a report: files that appear whole, and nothing left over from the report before."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from ctp_ldm import __version__
from ctp_ldm.writing import whole_file

MANIFEST = "report.json"
MAKER = "ctp-ldm report"
PARTS = ("cases", "figures")
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


class ReportFolderError(ValueError):
    """A folder that a report cannot be written to."""


class ReportFolder:
    """Writes files; what an earlier report left in cases/ and figures/ is removed at the end.

    Args:
        path: new, empty, or of an earlier report, finished or not.

    Raises:
        ReportFolderError: it holds something else, or cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        if path.exists() and not path.is_dir():
            raise ReportFolderError(f"{path} is a file; expected a folder for the report: name another --out")
        others = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
        if others and not self._is_report():
            raise ReportFolderError(
                f"{path} holds other files, such as {others[:3]}; expected a new or empty folder, or an earlier "
                "report: name another --out"
            )
        # It says whose folder this is from the start: an interrupted report can be made again.
        self._write_manifest(finished=False)

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file whole or not at all.

        Args:
            name: its path in the folder, with slashes.
            content: text as UTF-8.
        """
        data = content.encode() if isinstance(content, str) else content
        place = self.path / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(place) as partial:
                partial.write_bytes(data)
        except OSError as error:
            raise ReportFolderError(
                f"{place} could not be written ({error}); make space or name another --out, then repeat the command"
            ) from error
        self.sizes[name] = len(data)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return sum(self.sizes.values())

    def finish(self) -> None:
        """Remove what an earlier report left."""
        for part in PARTS:
            for file in sorted((self.path / part).rglob("*"), reverse=True):
                if file.is_file() and file.relative_to(self.path).as_posix() not in self.sizes:
                    file.unlink()
                elif file.is_dir() and not any(file.iterdir()):
                    file.rmdir()
        self._write_manifest(finished=True)

    def _is_report(self) -> bool:
        try:
            content = json.loads((self.path / MANIFEST).read_text())
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and str(content.get("made_by")).startswith(MAKER)

    def _write_manifest(self, finished: bool) -> None:
        content = {"made_by": f"{MAKER} {__version__}", "finished": finished, "bytes": self.size}
        self.write(MANIFEST, json.dumps(content, indent=1))


def file_names(cases: Iterable[str]) -> dict[str, str]:
    """Case → a name that is safe in paths and addresses on every system, different for every case."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for case in cases:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", case).strip("._")[:80] or "case"
        plain = f"case-{plain}" if RESERVED.match(plain) else plain
        name, number = plain, 2
        while name.casefold() in taken:  # some file systems do not tell a from A
            name, number = f"{plain}-{number}", number + 1
        taken.add(name.casefold())
        names[case] = name
    return names
