"""A loss that is no number ends training before it reaches the weights."""

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from ctp_ldm.callbacks.last import LastCheckpoint
from ctp_ldm.processes import any_process, from_all_processes
from ctp_ldm.runs import CHECKPOINTS, LAST
from ctp_ldm.sample import Sample


class NonFiniteLoss(ValueError):
    """The loss or its gradient is NaN or infinite; names the slices of the step."""


class FiniteLoss(Callback):
    """Looks at loss and gradient before each optimiser step, in all processes at the same one.

    Where one is NaN or infinite it saves the state of before the step as `checkpoints/last.ckpt` and raises.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._slices: list[tuple[list[str], Tensor]] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Sample, batch_idx: int
    ) -> None:
        # Put into words only when needed: that would wait for the accelerator at every step.
        self._slices.append((batch["case"], batch["slice_index"]))

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        finite: list[bool] = torch.stack(self._losses).isfinite().tolist()
        slices = self._slices
        self._losses, self._slices = [], []
        sound = all(finite) and _finite_gradient(trainer, optimizer)
        if not any_process(not sound):
            return
        terms = ", ".join(f"{k} {float(v):.4g}" for k, v in getattr(pl_module, "last_terms", {}).items())
        batches = [_named(*batch) for batch in slices]
        bad = [named for named, good in zip(batches, finite, strict=True) if not good]
        # A loss that is no number in one process spoils the gradient of all: those say nothing.
        said = from_all_processes(_described("loss", bad, terms))
        if not said:
            said = from_all_processes(_described("gradient", batches, terms))
        saved = [c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)][:1]
        for callback in saved:
            callback.save_before_step(trainer, len(batches))
        raise NonFiniteLoss(_message(trainer, said, bool(saved)))


def _finite_gradient(trainer: L.Trainer, optimizer: Optimizer) -> bool:
    if trainer.precision == "16-mixed":  # its scaler expects overflow, and leaves such steps out
        return True
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return bool(torch.nn.utils.get_total_norm(gradients).isfinite())


def _named(cases: list[str], indices: Tensor) -> str:
    return ", ".join(f"{case} slice {index}" for case, index in zip(cases, indices.tolist(), strict=True))


def _described(what: str, batches: list[str], terms: str) -> str:
    lines = [f"{what} is not finite in the batch: {slices}" for slices in batches]
    return "\n  ".join([*lines, f"terms of the last batch: {terms}"] if lines else [])


def _message(trainer: L.Trainer, faults: list[str], saved: bool) -> str:
    step = trainer.global_step
    lines = [f"training stopped before step {step + 1}:", *faults]
    if saved and step > 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        lines.append(f"the state before this step: {trainer.default_root_dir}/{CHECKPOINTS}/{LAST}")
    lines.append(
        "Look at these slices (ctp-ldm check STORE); if they are sound, a lower learning rate, "
        "trainer.gradient_clip_val: 1.0 or trainer.precision: 32-true may help"
    )
    return "\n  ".join(lines)
