"""The JSON of a part: what it was, where it was made, and what it came to."""

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from ctp_ldm import __version__
from ctp_ldm.report.arms import Arm
from ctp_ldm.report.runs import TestedRun, read_run
from ctp_ldm.runs import write_text

BEGUN = "part.json"
DIGITS = 5
"""Significant digits that are kept of a patient's metric."""


class ResultError(ValueError):
    """A part's JSON is damaged, or of something else than what is asked for."""


def write_result(path: Path, run: Path, columns: Sequence[str], seconds: dict[str, float]) -> None:
    """Keep what a tested run came to, and as `../curves/<name>.csv` what it finds at every cut-off.

    Args:
        path: JSON to write.
        run: folder of the run, of which `begin` has noted what it is.
        columns: metrics to keep, of those that the run has.
        seconds: that its commands took.
    """
    tested, config = read_run(run), _config(run)
    kept = [column for column in columns if column in tested.patients]
    patients = {
        str(case): {column: _rounded(value) for column, value in row.items()}
        for case, row in tested.patients[kept].iterrows()
    }
    content = {
        **json.loads((run / BEGUN).read_text()),
        "device": device(config["trainer"]["accelerator"]),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "summary": {
            **{key: tested.summary.get(key) for key in ("segmenter", "samples", "cutoff", "over all slices")},
            # Results are compared by targets and grid; sources may differ, and are in the config.
            "spec": {**tested.summary["spec"], "source": []} if "spec" in tested.summary else None,
        },
        "config": config,
        "patients": patients,
    }
    _curves(path).unlink(missing_ok=True)
    if tested.curves is not None and tested.curves.is_file():
        write_text(_curves(path), tested.curves.read_text())
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


def read_result(path: Path) -> dict[str, Any]:
    """Raises ResultError: it cannot be read."""
    try:
        content = json.loads(path.read_text())
        if not content["patients"]:
            raise KeyError("patients")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultError(f"{path} is no result of a part ({error!r}); delete it to have it made again") from error
    return dict(content)


def is_done(path: Path, identity: dict[str, Any]) -> bool:
    """Whether the part is there.

    Raises:
        ResultError: it is there, and was made with other settings.
    """
    if not path.exists():
        return False
    _require_same(read_result(path), identity, path)
    return True


def is_begun(run: Path, identity: dict[str, Any]) -> bool:
    """Whether a run folder holds the beginning of the part.

    Raises:
        ResultError: of the part with other settings; it would go on as something that is neither.
    """
    path = run / BEGUN
    if not path.exists():
        return False
    _require_same(json.loads(path.read_text()), identity, path)
    return True


def begin(run: Path, identity: dict[str, Any]) -> None:
    """Note in a run folder which part it is of, before anything is run there, and by which code."""
    versions = {"ctp-ldm": __version__, **{name: version(name) for name in ("torch", "lightning", "diffusers")}}
    content = {**identity, "commit": commit(), "versions": versions}
    write_text(run / BEGUN, json.dumps(content, indent=1, ensure_ascii=False))


def _require_same(found: Mapping[str, Any], identity: dict[str, Any], path: Path) -> None:
    odd = [key for key, value in json.loads(json.dumps(identity)).items() if found.get(key) != value]
    if odd:
        raise ResultError(
            f"{path} was made with other settings ({', '.join(odd)}); expected those of the protocol: choose another "
            "--out, or delete the file and the run folder to have it made again (all, where the phantom differs)"
        )


def read_arm(name: str, paths: Sequence[Path]) -> Arm:
    """The seeds of a part as one arm."""
    runs = []
    for path in paths:
        content = read_result(path)
        table = pd.DataFrame.from_dict(content["patients"], orient="index").astype(float).rename_axis("case")
        runs.append(TestedRun(Path(path.stem), table.sort_index(), content["summary"], _curves(path)))
    return Arm(name, tuple(runs))


def commit() -> str:
    """Of the checkout that the package is in, with `+changes` where files differ from it; the version without one."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        found = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
        return found.stdout.strip()

    try:
        root = Path(git("rev-parse", "--show-toplevel"))
        if not (root / "ctp_ldm" / "experiments").samefile(folder):
            return __version__
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--", "..", "../../configs") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return __version__


def device(accelerator: str) -> str:
    """What computes with this setting of the trainer."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


def _curves(path: Path) -> Path:
    """Of the JSON of a part."""
    return path.parent.with_name("curves") / f"{path.stem}.csv"


def _config(run: Path) -> Any:
    """The whole config as it was run."""
    path = next(path for path in (run / "fit.yaml", run / "test.yaml") if path.is_file())
    return yaml.safe_load(path.read_text())


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.{DIGITS}g}")
