"""The `ctp-ldm` command: the stages of LightningCLI, and the project's own commands beside them."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from ctp_ldm import __version__
from ctp_ldm.commands import COMMANDS

STAGES = {
    "fit": "train a stage: autoencoder, diffusion, post-training",
    "validate": "image metrics on the validation patients",
    "test": "image metrics per patient on the test patients, with intervals",
    "predict": "synthetic volumes as NIfTI, from a store or straight from NIfTI files",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Bad input is answered in words; `CTP_LDM_DEBUG=1` shows the traceback too."""
    try:
        run(sys.argv[1:] if arguments is None else arguments)
    except (ValueError, FileNotFoundError) as error:
        if os.environ.get("CTP_LDM_DEBUG"):
            raise
        sys.exit(f"ctp-ldm: error: {error}")
    except KeyboardInterrupt:
        print("\nctp-ldm: interrupted; the same command goes on where this one was", file=sys.stderr)
        sys.exit(130)


def run(arguments: Sequence[str]) -> None:
    """Run one command.

    Raises:
        ValueError, FileNotFoundError: bad input, described.
        SystemExit: help was asked for, or arguments that the parser refuses.
    """
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"ctp-ldm {__version__}")
    elif name in COMMANDS:
        from jsonargparse import auto_cli

        function = getattr(import_module(f"ctp_ldm.commands.{name}"), name)
        auto_cli(function, args=_options(function, rest), prog=f"ctp-ldm {name}")
    elif name in STAGES:
        from ctp_ldm.stages import run_stage

        run_stage(arguments)
    else:
        raise ValueError(f"unknown command {name!r}; expected one of {', '.join([*STAGES, *COMMANDS])}")


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


def _help() -> str:
    lines = ["usage: ctp-ldm COMMAND [--help | ARGUMENTS]", "", "Diffusion MRI from CT perfusion.", ""]
    for title, commands in (("models (--config X.yaml)", STAGES), ("data and results", COMMANDS)):
        lines += [f"{title}:", *[f"  {name:10} {text}" for name, text in commands.items()], ""]
    return "\n".join([*lines, "ctp-ldm COMMAND --help explains one; --version says which this is."])
