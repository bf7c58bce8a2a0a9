"""Where configs are found, and where a run keeps its files."""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml


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


def data_of_configs(arguments: Sequence[str]) -> list[str]:
    """Replace `--config` arguments by the data sections of these configs, later ones over earlier ones, as `--data`.

    So the commands that read a data set read it as the stage of that config will, whatever else the config says.

    Raises:
        FileNotFoundError: a config is neither here nor shipped.
        ValueError: it is no YAML.
    """
    data: dict[str, Any] = {}
    kept: list[str] = []
    words = iter(find_configs(arguments))
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--config", "-c"):
            section = _data_section(Path(value if equals else next(words, "")))
            data = {**data, **section, "init_args": {**data.get("init_args", {}), **section.get("init_args", {})}}
        else:
            kept.append(word)
    return [f"--data={json.dumps(data)}", *kept] if data else kept


_OF_THE_PARSER = ("Does not validate", "Subtypes:", "Errors:", "Given value", "- Expected a <class 'NoneType'>")


def what_is_wrong(message: str) -> str:
    """A parser's error without what it says of its own types.

    Args:
        message: nested lines of jsonargparse, of which a few name the key, what was found and what was expected.
    """
    lines = [line for line in message.splitlines() if line.strip() and not line.strip().startswith(_OF_THE_PARSER)]
    return "\n".join(lines)


def _data_section(path: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_text()).get("data", {}))
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a config: expected a YAML mapping with a section data ({error})") from error


def _find(name: str) -> str:
    if Path(name).is_file():
        return name
    shipped = shipped_configs()
    if (shipped / name).is_file():
        return str(shipped / name)
    listing = ", ".join(sorted(str(p.relative_to(shipped)) for p in shipped.rglob("*.yaml")))
    raise FileNotFoundError(f"config {name} is neither a file here nor shipped; shipped are: {listing}")
