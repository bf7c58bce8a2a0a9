"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place beside `path`, with its ending, to write to; it becomes `path` at the end, and is deleted at an error.

    Nobody else has that place: with more processes than patients, two of them write the same patient's files.
    """
    partial = path.with_name(f".{uuid4().hex}.{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
