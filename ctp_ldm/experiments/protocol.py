"""What is declared before anything is run: `configs/reproduce/protocol.yaml`."""

from argparse import ArgumentError
from collections import UserDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import register_type

from ctp_ldm.configuration import shipped_configs, what_is_wrong
from ctp_ldm.metrics import UnknownMetric, describe

FOLDER = "reproduce"
Phase = Literal["development", "final"]
T = TypeVar("T")


class ProtocolError(ValueError):
    """A protocol that contradicts itself."""


class Settings(UserDict[str, Any]):
    """Option → value of a part's command line, which alone knows what they mean.

    No dict: jsonargparse would look for classes to instantiate in it.
    """


register_type(Settings, serializer=dict, deserializer=Settings)


@dataclass(frozen=True)
class Patients:
    """A phantom.

    seed: of its patients.
    parts: how many train, choose checkpoints, and are tested.
    """

    seed: int
    parts: tuple[int, int, int]


@dataclass(frozen=True)
class Size:
    """How large everything is; `configs/reproduce/<name>/` has its stages.

    preset: of the phantom.
    spacing, size: of the grid that all is brought to, in mm and pixels.
    jobs: parts that run side by side.
    development, final: patients for decisions, and those of the table.
    cache_latents: whether all that starts from the autoencoder shares its latents, encoded once; its configs must then
        flip slices at most.
    """

    preset: str
    spacing: float
    size: tuple[int, int]
    jobs: int
    development: Patients
    final: Patients
    cache_latents: bool = False


@dataclass(frozen=True)
class Part:
    """One model: what is fitted, from what, and how it is tested.

    title: in tables.
    stage: name of the stage's config in the size's folder; None where nothing is fitted.
    configs: over it, in order; `{size}` is the size's name.
    start: part whose checkpoint it starts from.
    of: part whose checkpoint is tested, where nothing is fitted.
    settings: option → value, after the configs.
    store: data that it sees, a key of `Protocol.stores`.
    seeds: runs that differ in their seed.
    """

    title: str
    stage: str | None = None
    configs: list[str] = field(default_factory=list)
    start: str | None = None
    of: str | None = None
    settings: Settings = field(default_factory=Settings)
    store: str = "ctp"
    seeds: int = 1


@dataclass(frozen=True)
class Family:
    """A kind of latent model.

    title: in tables.
    base, posttrain: configs over those of the stage.
    lacks: arms that mean nothing here.
    """

    title: str
    base: list[str] = field(default_factory=list)
    posttrain: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Primary:
    """What the study is decided by: in every family `ours` against `control`.

    superior: metrics in which the interval of the difference has to exclude 0, and the adjusted p be at most 0.05.
    no_worse: metric → margin in its unit, more than 0: the two-sided 95 % interval has to exclude a loss of so much.
    """

    ours: str
    control: str
    superior: list[str]
    no_worse: dict[str, float]

    def faults(self) -> list[str]:
        """Metrics and margins that nothing can be decided by."""
        odd = [c for c, margin in self.no_worse.items() if not margin > 0]
        found = [f"the margin of {c} is {self.no_worse[c]}; expected more than 0, in its unit" for c in odd]
        named = {column: _undecided(column) for column in [*self.superior, *self.no_worse]}
        return found + [f"primary names the metric {column}: {why}" for column, why in named.items() if why]


@dataclass(frozen=True)
class Protocol:
    """All of it.

    sizes: name → size.
    stores: name → configs of tasks over a stage's; "ctp" has none.
    reader: part that reads the synthetic images.
    parts: name → part; those of families are added by `read_protocol` as `<family>-<arm>`.
    families, arms: name → family, and name → arm; an arm's `start` and `of` name arms.
    primary: see there.
    columns: metrics of the table.
    cutoff_false_ml: mean false lesion volume, in mL, for which each part's own cut-off is chosen on all of the patients
        that choose checkpoints; None for the thresholds in the configs.
    """

    sizes: dict[str, Size]
    stores: dict[str, list[str]]
    reader: str
    parts: dict[str, Part]
    families: dict[str, Family]
    arms: dict[str, Part]
    primary: Primary
    columns: list[str]
    cutoff_false_ml: float | None = None

    def expanded(self) -> Self:
        """With the parts of all families."""
        return replace(self, parts=self.parts | {n: p for f in self.families for n, p in self._of_family(f).items()})

    def _of_family(self, name: str) -> dict[str, Part]:
        family = self.families[name]
        found = {}
        for arm, part in self.arms.items():
            if arm in family.lacks:
                continue
            own = {"diffusion": family.base, "posttrain": family.posttrain}.get(part.stage or "", [])
            start = f"{name}-{part.start}" if part.start in self.arms else part.start
            found[f"{name}-{arm}"] = replace(
                part,
                title=f"{family.title}: {part.title}",
                configs=[*own, *part.configs],
                start=start,
                of=f"{name}-{part.of}" if part.of else None,
            )
        return found

    def faults(self) -> list[str]:
        """Everything that is named and does not exist."""
        found = [f"reader is {self.reader}, which is no part"] if self.reader not in self.parts else []
        for name, part in self.parts.items():
            for key, other in (("start", part.start), ("of", part.of)):
                if other is not None and other not in self.parts:
                    found.append(f"part {name}: {key} is {other}; expected one of {', '.join(self.parts)}")
            if part.store not in self.stores:
                found.append(f"part {name}: store is {part.store}; expected one of {', '.join(self.stores)}")
            if part.stage is not None and part.of is not None:
                found.append(f"part {name} has both stage and of; expected what it fits or what it tests")
        for arm in (self.primary.ours, self.primary.control):
            if arm not in self.arms:
                found.append(f"primary names the arm {arm}; expected one of {', '.join(self.arms)}")
        if self.cutoff_false_ml is not None and not self.cutoff_false_ml > 0:
            found.append(f"cutoff_false_ml is {self.cutoff_false_ml}; expected more than 0 mL, or null")
        return [*found, *self.primary.faults()]


def _undecided(column: str) -> str:
    """Why nothing can be decided by a metric; "" where it can."""
    # In a volume error, what is missed in one place hides what is invented in another.
    odd = "expected a metric of which more or less is better, and no volume error"
    try:
        return "" if describe(column).better in ("higher", "lower") and "volume_error" not in column else odd
    except UnknownMetric as error:
        return str(error)


def read_protocol(path: Path | None = None) -> Protocol:
    """Read a protocol, the shipped one unless told otherwise.

    Raises:
        ProtocolError: what is wrong with it, all of it.
    """
    path = path or shipped_configs() / FOLDER / "protocol.yaml"
    protocol = parsed(Protocol, read_mapping(path), path).expanded()
    if faults := protocol.faults():
        raise ProtocolError(f"{path}:\n" + "\n".join(faults))
    return protocol


def read_mapping(path: Path) -> Mapping[str, Any]:
    """The YAML of a file.

    Raises:
        ProtocolError: it cannot be read, or is no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ProtocolError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ProtocolError(f"{path} holds a {type(content).__name__}; expected a mapping")
    return content


def parsed(kind: type[T], content: Any, path: Path) -> T:
    """Content of a file as an instance of a dataclass.

    Raises:
        ProtocolError: keys or values that it does not have.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=kind)
    try:
        found: T = parser.instantiate(parser.parse_object({"it": content})).it
    except ArgumentError as error:
        raise ProtocolError(f"{path}: {what_is_wrong(str(error))}") from error
    return found
