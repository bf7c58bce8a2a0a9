"""The command lines of a part: what anybody would type to have the same."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ctp_ldm.experiments.protocol import FOLDER, Part, Protocol

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
"""Several parts write side by side; a bar over all of them is shown instead."""


Step = Literal["fit", "validate", "test"]
"""In this order."""


@dataclass(frozen=True)
class Place:
    """Where the runs of a phase lie, relative to where the command was given."""

    root: Path

    @property
    def tree(self) -> Path:
        """The patients."""
        return self.root / "phantom"

    @property
    def split(self) -> Path:
        """Those of them that could be prepared, by part."""
        return self.root / "split.json"

    def store(self, name: str) -> Path:
        """One of the prepared stores."""
        return self.root / f"store-{name}"

    @property
    def latents(self) -> Path:
        """Latents of the training slices, for all that starts from an autoencoder."""
        return self.root / "latents"

    def run(self, part: str, seed: int) -> Path:
        """Run folder."""
        return self.root / "runs" / f"{part}-seed{seed}"

    def checkpoint(self, part: str, seed: int) -> Path:
        """The one that was best on the patients that choose checkpoints."""
        return self.run(part, seed) / "checkpoints" / "best.ckpt"

    def result(self, part: str, seed: int) -> Path:
        """What is kept of it."""
        return self.root / "parts" / f"{part}-seed{seed}.json"


def seed_of(protocol: Protocol, part: str, seed: int) -> int:
    """The seed of a part that one of another seed starts from: the same, or its only one."""
    return seed if seed < protocol.parts[part].seeds else 0


def commands(protocol: Protocol, size: str, place: Place, name: str, seed: int) -> dict[Step, list[str]]:
    """Arguments of `ctp-ldm`: of fit, where there is something to fit, of validate, where it chooses the cut-off that
    test then uses, and of test."""
    part = protocol.parts[name]
    source = protocol.parts[part.of] if part.of else part
    common = [
        *_configs(protocol, size, source),
        *(f"--config={config.format(size=size)}" for config in (part.configs if part.of else [])),
        *_data(protocol, size, place, part),
        f"--seed_everything={seed}",
        f"--trainer.default_root_dir={place.run(name, seed)}",
        *QUIET,
        *(f"--{option}={_plain(value)}" for option, value in (source.settings | part.settings).items()),
    ]
    judge = list(common)
    if not _finds_lesions(source):
        judge.append(f"--segmenter={place.checkpoint(protocol.reader, 0)}")
    if part.of:
        judge.append(f"--ckpt_path={place.checkpoint(part.of, seed_of(protocol, part.of, seed))}")
    judged: dict[Step, list[str]] = {"test": ["test", *judge]}
    if protocol.cutoff_false_ml is not None:
        wanted = [f"--cutoff_false_ml={protocol.cutoff_false_ml}", "--data.validation_cases=null"]
        judged = {"validate": ["validate", *judge, *wanted], "test": ["test", *judge, "--cutoff=validated"]}
    if part.stage is None:
        return judged
    start = place.checkpoint(part.start, seed_of(protocol, part.start, seed)) if part.start else "null"
    fit = ["fit", *common, f"--init_from={start}"]
    if part.start and protocol.sizes[size].cache_latents:
        fit.append(f"--model.cache_latents={place.latents}")
    return {"fit": fit, **judged}


def needs(protocol: Protocol, name: str, seed: int) -> dict[Step, list[tuple[str, int]]]:
    """Parts, with their seeds, that have to be fitted before each of its own steps."""
    part = protocol.parts[name]
    source = protocol.parts[part.of] if part.of else part
    starts = [(part.start, seed_of(protocol, part.start, seed))] if part.start else []
    tested = [(part.of, seed_of(protocol, part.of, seed))] if part.of else []
    if not _finds_lesions(source):
        tested.append((protocol.reader, 0))
    steps = commands(protocol, next(iter(protocol.sizes)), Place(Path()), name, seed)
    return {step: starts if step == "fit" else tested for step in steps}


def _configs(protocol: Protocol, size: str, part: Part) -> list[str]:
    stage = [f"{FOLDER}/{size}/{part.stage}.yaml"] if part.stage else []
    listed = [*stage, *part.configs, *protocol.stores[part.store]]
    return [f"--config={config.format(size=size)}" for config in listed]


def _data(protocol: Protocol, size: str, place: Place, part: Part) -> list[str]:
    grid = protocol.sizes[size]
    return [
        f"--data.store={place.store(part.store)}",
        f"--data.spacing={grid.spacing}",
        f"--data.size={json.dumps(list(grid.size))}",
        "--data.split=ctp_ldm.data.ListedSplit",
        f"--data.split.path={place.split}",
    ]


def _finds_lesions(part: Part) -> bool:
    """Whether it gives masks instead of images; nobody has to read them then."""
    return part.stage == "segmenter" or "threshold.yaml" in part.configs


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
