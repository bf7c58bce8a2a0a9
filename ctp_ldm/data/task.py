"""A translation task: which files are read, which are synthesised, and how the brain is found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ctp_ldm.data.quantities import Quantity
from ctp_ldm.data.volumes import Volume
from ctp_ldm.spec import DataSpec

BRAIN, LESION = "brain", "lesion"


@dataclass(frozen=True)
class Task:
    """Roles and quantities of a task's files; the first source defines the grid of a case.

    sources, targets: role → quantity, in channel order.
    brain_mask: volumes (on one grid) → (X, Y, Z) bool; used for cases that bring no brain mask.
    needs_lesion: whether a case without lesion mask is unfit for training and test.
    """

    sources: Mapping[str, Quantity]
    targets: Mapping[str, Quantity]
    brain_mask: Callable[[Mapping[str, Volume]], np.ndarray]
    needs_lesion: bool = False

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role that a layout should look for."""
        return (*self.sources, *self.targets, BRAIN, LESION)

    def dimensions(self, role: str) -> int:
        """Dimensions that the file of a role must have."""
        quantity = self.sources.get(role) or self.targets.get(role)
        return quantity.dimensions if quantity else 3

    def spec(self, spacing: float, size: tuple[int, int]) -> DataSpec:
        """The channels of this task on a given grid."""
        return DataSpec(
            source=tuple(c for role, q in self.sources.items() for c in q.channels(role)),
            target=tuple(c for role, q in self.targets.items() for c in q.channels(role)),
            spacing=spacing,
            size=size,
        )
