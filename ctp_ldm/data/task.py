"""A translation task: which files are read, and what they hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ctp_ldm.data.quantities import Quantity
from ctp_ldm.data.units import AUTO
from ctp_ldm.spec import DataSpec

BRAIN, LESION = "brain", "lesion"
MASKS = (BRAIN, LESION)


@dataclass(frozen=True)
class Task:
    """Roles and quantities of a task's files.

    The first source defines a case's grid, and its brain where the case brings no mask.

    sources, targets: role → quantity, in channel order.
    needs_lesion: whether a case without lesion mask is unfit for training and test.
    units: role → unit that its files are in, for those that the values do not tell.

    Raises:
        ValueError: a role is both source and target, or a unit is stated for a role that has none.
    """

    sources: Mapping[str, Quantity]
    targets: Mapping[str, Quantity]
    needs_lesion: bool = False
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        both = sorted({*self.sources} & {*self.targets} | {*self.sources, *self.targets} & {BRAIN, LESION})
        if both:
            raise ValueError(f"{', '.join(both)}: a role is a source or a target; brain and lesion are neither")
        able = [role for role, q in self._named().items() if _has_unit(q)]
        unknown = sorted(set(self.units) - set(able))
        if unknown:
            raise ValueError(f"data.units: no unit can be stated for {', '.join(unknown)}; only for {', '.join(able)}")

    def _named(self) -> dict[str, Quantity]:
        named = {**self.sources, **self.targets}
        companions = {role: q for quantity in named.values() for role, q in quantity.companions.items()}
        return {**{role: named.get(role, q) for role, q in companions.items()}, **named}

    @property
    def quantities(self) -> dict[str, Quantity]:
        """What each file holds, its unit stated where it is: sources, targets and their companions, these first."""
        return {r: replace(q, unit=self.units[r]) if r in self.units else q for r, q in self._named().items()}  # type: ignore[type-var]

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role that a layout should look for."""
        return (*self._named(), BRAIN, LESION)

    def stating(self, units: Mapping[str, str]) -> "Task":
        """The same task with the units that a data set agrees on, for roles whose unit is open and that take it so."""
        named = {r: q for r, q in self._named().items() if q.unit_by_agreement and r not in self.units}
        open_roles = {r for r in units if r in named and getattr(named[r], "unit", "") == AUTO}
        return replace(self, units={**self.units, **{role: units[role] for role in sorted(open_roles)}})

    def spec(self, spacing: float, size: tuple[int, int], slice_thickness: float | None = 5.0) -> DataSpec:
        """The channels of this task on a given grid (`DataSpec`)."""
        return DataSpec(
            source=tuple(c for role, q in self.sources.items() for c in q.channels(role)),
            target=tuple(c for role, q in self.targets.items() for c in q.channels(role)),
            spacing=spacing,
            size=size,
            slice_thickness=slice_thickness,
        )


def _has_unit(quantity: Any) -> bool:
    return any(f.name == "unit" for f in fields(quantity))
