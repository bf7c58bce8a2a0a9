"""How often what happens, and the named data sets made from it."""

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

SizeName = Literal["tiny", "small", "standard", "full"]
PresetName = Literal["demo", "standard", "stress"]


@dataclass(frozen=True)
class Mix:
    """Shares of patients, each from 0 to 1.

    The first four exclude one another; who is none of them has a territorial infarct. The others are drawn for every
    patient on their own.

    emboli, lacune: small infarcts of 0.1–2 mL, together a fifth; CTP sees few lacunes.
    hypoperfusion: low flow without infarct, as behind a stenosis or in a mimic.
    lesion_free: neither.
    reperfused: the vessel is open again before the CT (spontaneously in 24 % within a day, Rha and Saver 2007).
    old_infarct: silent infarcts, 8–28 % of the elderly (Vermeer et al. 2007).
    leukoaraiosis: white matter disease that is seen on CT.
    truncated: scans that end soon after the first pass.
    late: boluses that arrive 18–28 s into the scan, and broad, as with a weak heart.
    """

    emboli: float = 0.11
    lacune: float = 0.08
    hypoperfusion: float = 0.07
    lesion_free: float = 0.10
    reperfused: float = 0.12
    old_infarct: float = 0.15
    leukoaraiosis: float = 0.40
    truncated: float = 0.10
    late: float = 0.10

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(f"{field.name}: found {getattr(self, field.name)!r}, expected a share from 0 to 1")
        kinds = self.emboli + self.lacune + self.hypoperfusion + self.lesion_free
        if kinds > 1 + 1e-9:
            raise ValueError(f"emboli + lacune + hypoperfusion + lesion_free: found {kinds:g}, expected at most 1")


class Preset(NamedTuple):
    """A named data set. `parts` says how many patients train, validate and test, in the order of their numbers."""

    size: SizeName
    seed: int
    mix: Mix
    parts: tuple[int, int, int]


STRESS = Mix(0.2, 0.2, 0.15, 0.05, reperfused=0.4, old_infarct=0.5, leukoaraiosis=0.8, truncated=0.4, late=0.4)
PRESETS: dict[PresetName, Preset] = {
    "demo": Preset("small", 0, Mix(), (28, 6, 6)),
    "standard": Preset("standard", 20250, Mix(), (300, 50, 150)),
    "stress": Preset("standard", 20251, STRESS, (0, 0, 100)),
}
