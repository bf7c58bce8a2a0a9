"""The project's own commands: a small typed function each, which the command line is made from.

Each lies in a module of its name, loaded when it is called: `ctp-ldm --help` need not wait for torch.
"""

import inspect
import json
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import get_origin

from ctp_ldm.configuration import data_of_configs

COMMANDS = {
    "phantom": "write an ISLES'24-style tree of simulated patients",
    "check": "read and check every case of a data set; report all faults at once",
    "prepare": "bring a data set to one grid and scaling; write the slice store that training reads",
    "convert": "bring models in and out: published checkpoints, diffusers folders, stages of this project",
    "compare": "put tested runs on the same patients side by side, with paired intervals",
    "report": "pages about tested runs: tables, figures, every case's images to look through",
    "reproduce": "make or resume the table that the project's claims come from",
    "ablate": "vary one choice of that study, on patients for development",
    "demo": "the whole system on simulated patients, on two CPU cores",
}


def run_command(name: str, arguments: Sequence[str]) -> None:
    """Run one of them.

    Raises:
        ValueError, FileNotFoundError: bad input, described.
        SystemExit: help was asked for, or arguments that the parser refuses.
    """
    from jsonargparse import auto_cli

    function = getattr(import_module(f"ctp_ldm.commands.{name}"), name)
    options = _listed(function, _options(function, arguments))
    if "data" in inspect.signature(function).parameters:
        options = data_of_configs(options)
    auto_cli(function, args=options, prog=f"ctp-ldm {name}")


def _options(function: Callable[..., None], words: Sequence[str]) -> list[str]:
    """`--skip-invalid` as well as `--skip_invalid true`: dashes in names, and switches without a value."""
    switches = {n for n, p in inspect.signature(function).parameters.items() if p.annotation is bool}
    found = []
    for word, following in zip(words, [*words, "--"][1:], strict=True):
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            option = "--" + option[2:].replace("-", "_")
            if option[2:] in switches and not equals and following.lower() not in ("true", "false"):
                equals, value = "=", "true"
        found.append(option + equals + value)
    return found


def _listed(function: Callable[..., None], words: Sequence[str]) -> list[str]:
    """`A B` as well as `'[A, B]'`, where all that a command must be given is one list."""
    required = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    plain = [
        i
        for i, (before, word) in enumerate(zip(["", *words], words, strict=False))
        if not word.startswith("-") and not (before.startswith("--") and "=" not in before)
    ]
    if [get_origin(p.annotation) for p in required] != [list] or not plain or words[plain[0]].startswith("["):
        return list(words)
    found = [json.dumps([words[i] for i in plain], ensure_ascii=False)]
    return found + [word for i, word in enumerate(words) if i not in plain]
