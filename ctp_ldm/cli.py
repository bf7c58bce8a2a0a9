"""The `ctp-ldm` command: the stages of LightningCLI, and the project's own commands beside them."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool

from ctp_ldm import __version__
from ctp_ldm.commands import COMMANDS, run_command
from ctp_ldm.machine import in_words, is_of_machine
from ctp_ldm.signals import StoppedBySignal

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
    except (OSError, MemoryError, BrokenProcessPool) as error:
        if os.environ.get("CTP_LDM_DEBUG") or not is_of_machine(error):
            raise
        sys.exit(f"ctp-ldm: error: {in_words(error)}")
    except StoppedBySignal as stop:
        if any(int(os.environ.get(name, 0)) for name in ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")):
            sys.exit(0)  # the first process speaks for all of them
        print(f"ctp-ldm: {stop}", file=sys.stderr)
        sys.exit(128 + stop.signal)
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
        run_command(name, rest)
    elif name in STAGES:
        from ctp_ldm.stages import run_stage

        run_stage(arguments)
    else:
        raise ValueError(f"unknown command {name!r}; expected one of {', '.join([*STAGES, *COMMANDS])}")


def _help() -> str:
    lines = ["usage: ctp-ldm COMMAND [--help | ARGUMENTS]", "", "Diffusion MRI from CT perfusion.", ""]
    for title, commands in (("models (--config X.yaml)", STAGES), ("data and results", COMMANDS)):
        lines += [f"{title}:", *[f"  {name:10} {text}" for name, text in commands.items()], ""]
    return "\n".join([*lines, "ctp-ldm COMMAND --help explains one; --version says which this is."])
