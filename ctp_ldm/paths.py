"""What outputs may say of where things lie: a path names people, hospitals and disks, and outputs are passed on."""

import hashlib
import os
import re
from pathlib import Path

# At the start of an argument, after its =, or an item of a list in it; names may hold spaces.
ABSOLUTE = re.compile(r"""(^|[\[,"'\s=])(/[^,\]"']+)""")


def shown_path(path: Path | str) -> str:
    """A path as outputs tell it: relative to the current folder where it is inside, else only how it ends.

    That is RUN/checkpoints/best.ckpt of a checkpoint in a run, and the bare name of anything else.
    """
    plain, here = Path(os.path.abspath(path)), Path.cwd()  # noqa: PTH100 (a link's target is nobody's business)
    if plain != here and here != Path(here.anchor) and plain.is_relative_to(here):
        return plain.relative_to(here).as_posix()
    return "/".join(plain.parts[-3 if plain.parent.name == "checkpoints" else -1 :])


def without_place(text: str, folder: Path) -> str:
    """A message about a file in a folder, with the folder as outputs tell it."""
    return text.replace(str(folder), shown_path(folder))


def shown_command(words: list[str]) -> list[str]:
    """A command line without the absolute paths in it."""
    return [Path(words[0]).name, *(ABSOLUTE.sub(lambda m: m[1] + shown_path(m[2]), word) for word in words[1:])]


def sha256(path: Path) -> str:
    """Of a file's content: which file it was, wherever it lay."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
