"""What the numbers of a batch mean: the record that store, checkpoint and config must agree on."""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from ctp_ldm.scaling import Scaling, scaling_from_plain

MASKED_MEAN, LOCAL_LINEAR = "masked mean", "local linear fit"
RESAMPLED = ("slice_thickness", "averaging", "phases")


class SpecMismatch(ValueError):
    """Data and model (or store and config) mean different things by the same numbers."""


@dataclass(frozen=True)
class Channel:
    """One channel of `source` or `target`: its name and the scaling of its values."""

    name: str
    scaling: Scaling


@dataclass(frozen=True)
class DataSpec:
    """Channels with their scalings, and how files were brought to the grid.

    source, target: in channel order.
    spacing: in-plane voxel size in mm.
    size: (H, W) in voxels.
    slice_thickness: mm that thinner slices were averaged to; None: slices are as they came.
    averaging: how one voxel is made of several.
    phases: how one phase of a series is made of its frames.
    """

    source: tuple[Channel, ...]
    target: tuple[Channel, ...]
    spacing: float
    size: tuple[int, int]
    slice_thickness: float | None = 5.0
    averaging: str = MASKED_MEAN
    phases: str = LOCAL_LINEAR

    def to_plain(self) -> dict[str, Any]:
        """Plain data for manifests and checkpoints."""
        return {
            "source": [{"name": c.name, "scaling": c.scaling.to_plain()} for c in self.source],
            "target": [{"name": c.name, "scaling": c.scaling.to_plain()} for c in self.target],
            "spacing": float(self.spacing),
            "size": [int(n) for n in self.size],
            "slice_thickness": None if self.slice_thickness is None else float(self.slice_thickness),
            "averaging": self.averaging,
            "phases": self.phases,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any], name: str = "the record") -> Self:
        """Rebuild from `to_plain`.

        Args:
            plain: the record.
            name: of what it is found in, for messages.

        Raises:
            SpecMismatch: it does not say how data were resampled, as those of version 0.2.0 and before.
        """
        silent = [key for key in RESAMPLED if key not in plain]
        if silent and "spacing" in plain:
            raise SpecMismatch(
                f"the spec of {name} does not say {', '.join(silent)}: it was made by version 0.2.0 or before, which "
                "resampled otherwise; prepare the data again with this version and train on them, or convert the "
                "original weights again"
            )
        height, width = plain["size"]
        return cls(
            source=tuple(Channel(c["name"], scaling_from_plain(c["scaling"])) for c in plain["source"]),
            target=tuple(Channel(c["name"], scaling_from_plain(c["scaling"])) for c in plain["target"]),
            spacing=float(plain["spacing"]),
            size=(int(height), int(width)),
            slice_thickness=None if plain["slice_thickness"] is None else float(plain["slice_thickness"]),
            averaging=str(plain["averaging"]),
            phases=str(plain["phases"]),
        )

    def with_context(self, slices: int) -> Self:
        """The same data where the source also holds so many neighbouring slices on each side, from below to above."""
        source = tuple(
            Channel(f"{channel.name}{f'@{offset:+d}' if offset else ''}", channel.scaling)
            for offset in range(-slices, slices + 1)
            for channel in self.source
        )
        return replace(self, source=source)

    @property
    def target_names(self) -> list[str]:
        return [channel.name for channel in self.target]

    def decode_target(self, encoded: Tensor) -> Tensor:
        """(B, Ct, H, W) in [−1, 1] → the same shape in each channel's unit, float32."""
        values = encoded.float()
        return torch.stack([c.scaling.decode(values[:, i]) for i, c in enumerate(self.target)], dim=1)

    def encode_target(self, values: Tensor) -> Tensor:
        """(B, Ct, H, W) in each channel's unit → [−1, 1], float32; what lies outside the range is clipped."""
        physical = values.float()
        return torch.stack([c.scaling.encode(physical[:, i]) for i, c in enumerate(self.target)], dim=1)

    def require_same(self, other: "DataSpec", mine: str, theirs: str, remedy: str) -> None:
        """Refuse to go on where two records differ.

        Args:
            other: what is compared with this one.
            mine, theirs: what the two belong to, for the message.
            remedy: what the user can do.

        Raises:
            SpecMismatch: naming every difference.
        """
        here, there = self.to_plain(), other.to_plain()
        grid = ("spacing", "size", *RESAMPLED)
        faults = [f"{key}: {here[key]} ≠ {there[key]}" for key in grid if here[key] != there[key]]
        for role in ("source", "target"):
            ours = {c["name"]: c["scaling"] for c in here[role]}
            others = {c["name"]: c["scaling"] for c in there[role]}
            if list(ours) != list(others):
                faults.append(f"{role} channels: {list(ours)} ≠ {list(others)}")
            faults += [
                f"scaling of {role} {name}: {ours[name]} ≠ {others[name]}"
                for name in ours
                if name in others and ours[name] != others[name]
            ]
        if faults:
            listing = "\n  ".join(faults)
            raise SpecMismatch(f"{mine} and {theirs} do not agree ({mine} first):\n  {listing}\n{remedy}")
