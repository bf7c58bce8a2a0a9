"""Lesion segmentation: the reader of synthetic images, and the rival that needs none."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from monai.losses import DiceCELoss
from torch import Tensor

from ctp_ldm.modules.checkpoints import case_digest, require_compatible
from ctp_ldm.modules.lesion import LesionModule
from ctp_ldm.networks import LesionSegmenter
from ctp_ldm.runs import KEY, CheckpointError, read_checkpoint
from ctp_ldm.sample import Sample
from ctp_ldm.spec import DataSpec


class SegmenterModule(LesionModule):
    """Finds the lesion in every slice, trained with Dice and cross-entropy (MONAI's `DiceCELoss`, over the batch).

    With `inputs: target` it reads real DWI and ADC of the training patients. Evaluation then lets it read synthetic
    images (`segmenter: CHECKPOINT` beside the model in the config of test); it must not be the network that
    post-training was driven by. With `inputs: source` it finds the lesion in CT perfusion directly: the rival that
    synthesis has to beat.

    Args:
        spec, threshold, optimizer, lr_scheduler: see `LesionModule`.
        network: `_class_name` of a class of `monai.networks.nets`, and its arguments.
        inputs: "target" or "source".
        dice_weight, ce_weight: of the two terms.
        feature_layer: module of the network whose output, averaged over each slice, stands for the slice in Fréchet
            distances; None for none.

    Raises:
        ConfigError: of the network, or a layer that it does not have.
    """

    stage: ClassVar[str] = "segmenter"
    starts_from: ClassVar[Mapping[str, str]] = {"segmenter": ""}

    def __init__(
        self,
        spec: dict[str, Any],
        network: dict[str, Any],
        inputs: Literal["target", "source"] = "target",
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        threshold: float = 0.5,
        feature_layer: str | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(spec, threshold, optimizer, lr_scheduler)
        channels = self.spec.target if inputs == "target" else self.spec.source
        self.segmenter = LesionSegmenter(network, [c.scaling.background for c in channels], feature_layer)
        self.network, self.inputs, self.feature_layer = network, inputs, feature_layer
        self.criterion = DiceCELoss(sigmoid=True, batch=True, lambda_dice=dice_weight, lambda_ce=ce_weight)

    def loss(self, batch: Sample) -> dict[str, Tensor]:
        return {"dice_ce": self.criterion(self._logits(batch), batch["lesion"] * batch["brain"])}

    def probability(self, batch: Sample) -> Tensor:
        return torch.sigmoid(self._logits(batch)) * batch["brain"]

    def _logits(self, batch: Sample) -> Tensor:
        logits: Tensor = self.segmenter(batch[self.inputs], batch["brain"])
        return logits

    def describe(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "inputs": self.inputs,
            "threshold": self.threshold,
            "feature_layer": self.feature_layer,
        }

    def require_fits(self, checkpoint: Mapping[str, Any], name: str) -> None:
        super().require_fits(checkpoint, name)
        theirs = checkpoint[KEY]
        faults = [f"{k} is {theirs.get(k)} there, {getattr(self, k)} here" for k in ("network", "inputs")
                  if theirs.get(k) != getattr(self, k)]  # fmt: skip
        if faults:
            raise CheckpointError(f"the segmenter in {name} is another one: " + "; ".join(faults))


class LesionReader:
    """A trained segmenter that reads images in physical units. It is no part of the model whose images it reads.

    Args:
        path: checkpoint of a `SegmenterModule` with `inputs: target`.
        spec: of the data whose images it will read.

    Raises:
        CheckpointError: missing, damaged, or no such segmenter.
        SpecMismatch: it was trained on other targets, scalings or another grid.
    """

    def __init__(self, path: Path, spec: DataSpec) -> None:
        checkpoint = read_checkpoint(path)
        require_compatible(checkpoint, (SegmenterModule.stage,), spec, str(path), "the key segmenter", any_source=True)
        record = checkpoint[KEY]
        if record["inputs"] != "target":
            raise CheckpointError(
                f"the segmenter in {path} reads the source, not synthetic images; expected one that was trained with "
                "inputs: target"
            )
        backgrounds = [c.scaling.background for c in spec.target]
        self.network = LesionSegmenter(record["network"], backgrounds, record["feature_layer"])
        prefix = "segmenter."
        state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
        self.network.load_state_dict(state)
        self.network.requires_grad_(False).eval()
        self.path, self.spec = path, spec
        self.threshold: float = record["threshold"]
        self.trained_on = set(record.get("trained_on", ()))

    def seen(self, cases: Iterable[str]) -> list[str]:
        """Those of some patients that it was trained on."""
        return [case for case in cases if case_digest(case) in self.trained_on]

    @torch.no_grad()
    def read(self, images: Tensor, brain: Tensor) -> tuple[Tensor, Tensor | None]:
        """How likely each voxel is lesion; it is where that is above `threshold`.

        Args:
            images: (B, Ct, H, W) in physical units.
            brain: (B, 1, H, W).

        Returns:
            (B, 1, H, W) probability, 0 outside the brain; features (B, F) of the slices, None without `feature_layer`.
        """
        self.network.to(images.device)
        logits, features = self.network.with_features(self.spec.encode_target(images), brain)
        return torch.sigmoid(logits) * (brain > 0), features
