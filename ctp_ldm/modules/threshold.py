"""What the clinic does without a network."""

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor

from ctp_ldm.modules.lesion import LesionModule
from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample, Synthesis


class FlowThreshold(LesionModule):
    """Core where relative CBF is below 38 % (Cereda et al. 2016): the rule of perfusion software.

    Relative to the median of the slice's brain where Tmax, if there is such a map, is not above 6 s: most of that is
    normal tissue. There is nothing to train: only test and predict make sense.

    Args:
        spec: of data with a source channel `cbf` (configs/tasks/maps.yaml).
        fraction: of normal flow.

    Raises:
        ConfigError: no CBF among the sources.
    """

    stage: ClassVar[str] = "threshold"
    starts_from: ClassVar[Mapping[str, str]] = {}
    checkpoint_needed: ClassVar[bool] = False

    def __init__(self, spec: dict[str, Any], fraction: float = 0.38) -> None:
        if not 0 < fraction < 1:
            raise ConfigError(f"fraction is {fraction}; expected a share of normal flow between 0 and 1")
        # Of the score, which rises where flow falls; a probability of 0 or 1 is above it or not all the same.
        super().__init__(spec, threshold=round(1 - fraction, 6))
        names = [channel.name for channel in self.spec.source]
        if "cbf" not in names:
            raise ConfigError(f"FlowThreshold needs a source cbf, found {names}; add --config tasks/maps.yaml")
        self.flow = names.index("cbf")
        self.delay = names.index("tmax") if "tmax" in names else None

    def configure_optimizers(self) -> NoReturn:
        raise ConfigError("FlowThreshold has nothing to train; use it with test or predict")

    def loss(self, batch: Sample) -> dict[str, Tensor]:
        self.configure_optimizers()

    def probability(self, batch: Sample) -> Tensor:
        """1 where flow is low, else 0."""
        return (self._deficit(batch) > self.threshold).float()

    def scores(self, synthesis: Synthesis, batch: Sample) -> Tensor:
        """The share of normal flow that is missing."""
        return self._deficit(batch)

    def _deficit(self, batch: Sample) -> Tensor:
        """(B, 1, H, W) 1 − relative flow in [0, 1]; 0 outside the brain and where nothing tells what is normal."""
        flow = self._map(batch, self.flow)
        normal = batch["brain"] > 0
        if self.delay is not None:
            normal = normal & (self._map(batch, self.delay) <= 6.0)
        reference = torch.where(normal, flow, torch.nan).flatten(1).nanmedian(dim=1).values.view(-1, 1, 1, 1)
        deficit = torch.where(reference > 0, 1 - flow / reference, 0.0)
        return deficit.clamp(0, 1) * batch["brain"]

    def _map(self, batch: Sample, index: int) -> Tensor:
        return self.spec.source[index].scaling.decode(batch["source"][:, index : index + 1])
