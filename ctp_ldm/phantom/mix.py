"""How often what happens, and the named data sets made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple, get_args

SizeName = Literal["tiny", "small", "standard", "full"]
PresetName = Literal["demo", "standard", "outcome", "stress"]
MriTime = Literal["early", "follow-up"]


@dataclass(frozen=True)
class Mix:
    """Shares of patients, each from 0 to 1, and when their MRI is made.

    The first four exclude one another; who is none of them has a territorial infarct. The others are drawn for every
    patient on their own.

    emboli, lacune: small infarcts, together a fifth; CTP shows some of them.
    hypoperfusion: low flow without infarct, as behind a stenosis or in a mimic.
    lesion_free: neither.
    reperfused: the vessel is open again before the CT (spontaneously in 24 % within a day, Rha and Saver 2007).
    old_infarct: silent infarcts, 8–28 % of the elderly (Vermeer et al. 2007).
    leukoaraiosis: white matter disease that is seen on CT.
    truncated: scans that end soon after the first pass.
    late: boluses that arrive 18–28 s into the scan, and broad, as with a weak heart.
    mri: early, within an hour or so of the CT and before treatment has an effect, or follow-up, after days.
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
    mri: MriTime = "early"

    def __post_init__(self) -> None:
        if self.mri not in get_args(MriTime):
            raise ValueError(f"mix.mri: found {self.mri!r}, expected one of {', '.join(get_args(MriTime))}")
        for field in fields(self):
            share = getattr(self, field.name)
            if field.name != "mri" and not (isinstance(share, int | float) and 0 <= share <= 1):
                raise ValueError(f"mix.{field.name}: found {share!r}, expected a share from 0 to 1")
        kinds = self.emboli + self.lacune + self.hypoperfusion + self.lesion_free
        if kinds > 1 + 1e-9:
            shares = "emboli + lacune + hypoperfusion + lesion_free"
            raise ValueError(f"mix: {shares}: found {kinds:g}, expected at most 1; set one of them lower")


def changed(mix: Mix, shares: Mapping[str, float | str]) -> Mix:
    """The mix with other shares.

    Raises:
        ValueError: a share is unknown, or the shares do not go together; all that is wrong with names at once.
    """
    known = [field.name for field in fields(Mix)]
    unknown = sorted(shares.keys() - set(known))
    if unknown:
        raise ValueError(f"mix: found {', '.join(unknown)}, expected {', '.join(known)}")
    return replace(mix, **shares)  # type: ignore[arg-type]


class Preset(NamedTuple):
    """A named data set. `parts` says how many patients train, validate and test, in the order of their numbers."""

    size: SizeName
    seed: int
    mix: Mix
    parts: tuple[int, int, int]


STRESS = Mix(0.2, 0.2, 0.15, 0.05, reperfused=0.4, old_infarct=0.5, leukoaraiosis=0.8, truncated=0.4, late=0.4)
PRESETS: dict[PresetName, Preset] = {
    "demo": Preset("standard", 0, Mix(), (101, 24, 35)),
    "standard": Preset("standard", 20250, Mix(), (300, 50, 150)),
    "outcome": Preset("standard", 20252, Mix(mri="follow-up"), (300, 50, 150)),
    "stress": Preset("standard", 20251, STRESS, (0, 0, 100)),
}
