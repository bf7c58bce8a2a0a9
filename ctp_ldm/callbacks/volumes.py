"""Slices that come batch by batch, put together to whole patients."""

from typing import Any

import numpy as np
from torch import Tensor

from ctp_ldm.data import TranslationDataModule
from ctp_ldm.display.sources import look_at, shown_sources
from ctp_ldm.metrics import PatientVolumes
from ctp_ldm.sample import Sample, Synthesis
from ctp_ldm.spec import DataSpec

PENUMBRA_TMAX = 6.0


class NonFiniteOutput(ValueError):
    """A model gave NaN or infinity instead of an image."""


class VolumeBuilder:
    """Gathers what is evaluated of each patient until all its slices have come.

    Args:
        data: knows how many slices a patient has, and its geometry.
        targets_shown: whether the model synthesises the targets; else the volumes have none.
    """

    def __init__(self, data: TranslationDataModule, targets_shown: bool) -> None:
        self.data, self.targets_shown = data, targets_shown
        self._slices: dict[str, dict[int, dict[str, np.ndarray]]] = {}

    def add(self, synthesis: Synthesis, batch: Sample, found: Tensor | None, found_real: Tensor | None) -> list[str]:
        """Take in the slices of a batch; the patients that are whole with it."""
        arrays = self._arrays(synthesis, batch, found, found_real)
        require_finite(arrays["synthetic"] if self.targets_shown else synthesis["image"].float().cpu().numpy(), batch)
        whole = []
        for i, (case, index) in enumerate(zip(batch["case"], batch["slice_index"].tolist(), strict=True)):
            slices = self._slices.setdefault(case, {})
            slices[index] = {name: values[i] for name, values in arrays.items()}
            if len(slices) == self.data.slices_with_brain(case):
                whole.append(case)
        return whole

    def take(self, case: str) -> PatientVolumes:
        """A patient that is whole, who is then forgotten."""
        slices, geometry, spec = self._slices.pop(case), self.data.geometry(case), self.data.spec
        volumes: dict[str, Any] = {}
        for name, example in next(iter(slices.values())).items():
            stack = np.zeros((geometry.slices, *example.shape), example.dtype)
            for index, arrays in slices.items():
                stack[index] = arrays[name]
            volumes[name] = stack
        shown = spec.target if self.targets_shown else ()
        return PatientVolumes(
            case=case,
            spacing=(geometry.slice_distance, spec.spacing, spec.spacing),
            targets=tuple(channel.name for channel in shown),
            units=tuple(channel.scaling.unit for channel in shown),
            sources=tuple(channel.name for channel in shown_sources(spec)),
            **volumes,
        )

    @property
    def unfinished(self) -> list[str]:
        """Patients of whom slices are missing."""
        return sorted(self._slices)

    def _arrays(
        self, synthesis: Synthesis, batch: Sample, found: Tensor | None, found_real: Tensor | None
    ) -> dict[str, np.ndarray]:
        """What is kept, slice by slice, by the names of `PatientVolumes`."""
        spec, brain = self.data.spec, batch["brain"] > 0.5
        real = spec.decode_target(batch["target"]) * brain
        image = synthesis["image"]
        if not self.targets_shown:
            real, image = real[:, :0], image[:, :0]
        kept = {
            "synthetic": image,
            "real": real,
            "brain": brain[:, 0],
            "source": look_at(batch["source"], spec) * brain,
        }
        if "deviation" in synthesis:
            kept["deviation"] = synthesis["deviation"]
        masks = {"found": found, "found_real": found_real, "penumbra": _penumbra(batch, spec)}
        if "lesion" in batch:
            masks["lesion"] = (batch["lesion"] > 0.5) & brain
        kept |= {name: mask[:, 0] for name, mask in masks.items() if mask is not None}
        return {name: values.cpu().numpy() for name, values in kept.items()}


def require_finite(images: np.ndarray, batch: Sample) -> None:
    """Refuse a model's output that is no number: it would become a table or an image that looks like a result.

    Args:
        images: (B, C, H, W).
        batch: names the slices.

    Raises:
        NonFiniteOutput
    """
    bad = [i for i, image in enumerate(images) if not np.isfinite(image).all()]
    if bad:
        named = ", ".join(f"{batch['case'][i]} slice {int(batch['slice_index'][i])}" for i in bad[:5])
        raise NonFiniteOutput(
            f"the model's output is not finite in {len(bad)} of {len(images)} slices ({named}): its weights or these "
            "slices are damaged, or trainer.precision is too low for it; try trainer.precision: 32-true, and "
            "ctp-ldm check STORE"
        )


def _penumbra(batch: Sample, spec: DataSpec) -> Tensor | None:
    names = [channel.name for channel in spec.source]
    if "tmax" not in names:
        return None
    place = names.index("tmax")
    delay = spec.source[place].scaling.decode(batch["source"][:, place : place + 1])
    return (delay > PENUMBRA_TMAX) & (batch["brain"] > 0.5)
