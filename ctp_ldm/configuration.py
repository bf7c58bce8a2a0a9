"""Where configs are found, and where a run keeps its files."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path


def shipped_configs() -> Path:
    """The folder of configs that comes with the package: inside a wheel, beside the package in a checkout."""
    inside = Path(str(files("ctp_ldm"))) / "configs"
    return inside if inside.is_dir() else inside.parent.parent / "configs"


def find_configs(arguments: Sequence[str]) -> list[str]:
    """Replace names after `--config` (or `-c`) that are no file here by the shipped config of that name.

    Raises:
        FileNotFoundError: neither here nor shipped; the message lists what is shipped.
    """
    found: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in ("--config", "-c"):
            found.append(f"{name}={_find(value)}")
        elif found and found[-1] in ("--config", "-c"):
            found.append(_find(argument))
        else:
            found.append(argument)
    return found


def _find(name: str) -> str:
    if Path(name).is_file():
        return name
    shipped = shipped_configs()
    if (shipped / name).is_file():
        return str(shipped / name)
    listing = ", ".join(sorted(str(p.relative_to(shipped)) for p in shipped.rglob("*.yaml")))
    raise FileNotFoundError(f"config {name} is neither a file here nor shipped; shipped are: {listing}")
