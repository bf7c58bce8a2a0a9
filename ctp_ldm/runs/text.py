"""Text files that appear whole or not at all."""

from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file that nobody sees half-written; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_text(text)
    partial.replace(path)
