"""A training checkpoint as Lightning's own parts write it, and as this project does: size, time, memory.

    python tests/bench_checkpoint.py      (or: make bench-checkpoint)

Post-training with the full-size autoencoder and a denoiser of 136 M parameters. Both ways in turns, in one process.
"""

import gc
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import WeightAveraging
from samples import SCHEDULER, SPEC, random_batch, trainer
from torch.optim.swa_utils import get_ema_avg_fn

from ctp_ldm.callbacks import EMA
from ctp_ldm.modules import LesionAwarePostTraining
from ctp_ldm.runs import AtomicCheckpointIO
from ctp_ldm.sample import Sample

ROUNDS = 5
SIZE = (32, 32)
AUTOENCODER = {
    "_class_name": "VQModel",
    "block_out_channels": [128, 256, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 2,
    "latent_channels": 3,
    "num_vq_embeddings": 8192,
}
DENOISER = {
    "_class_name": "UNet2DModel",
    "block_out_channels": [96, 384, 768],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "attention_head_dim": 32,
}
WAYS: dict[str, tuple[Any, Any]] = {
    "Lightning's": (lambda: WeightAveraging(avg_fn=get_ema_avg_fn(0.999)), TorchCheckpointIO),
    "ctp-ldm's": (lambda: EMA(0.999), AtomicCheckpointIO),
}


class Measure(L.Callback):
    """Saves after the first step, and notes bytes, seconds and bytes of memory it took."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, (0, 0.0, 0)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, start = _memory("VmRSS"), time.perf_counter()
        trainer.save_checkpoint(self.path, weights_only=False)
        seconds = time.perf_counter() - start
        self.found = (self.path.stat().st_size, seconds, _memory("VmHWM") - before)


def measure(way: str, folder: Path) -> tuple[int, float, int]:
    """Bytes, seconds, bytes of memory."""
    average, files = WAYS[way]
    spec = replace(SPEC, size=SIZE)
    torch.manual_seed(0)
    module = LesionAwarePostTraining(spec.to_plain(), AUTOENCODER, DENOISER, SCHEDULER)
    batch = _crop(random_batch(2))
    module.estimate_latent_scale([batch])
    watch = Measure(folder / "one.ckpt")
    run = trainer(folder, max_steps=1, callbacks=[average(), watch], plugins=[files()])
    run.fit(module, torch.utils.data.DataLoader([batch], batch_size=None))  # type: ignore[arg-type]
    return watch.found


def _crop(batch: Sample) -> Sample:
    grown: dict[str, Any] = {
        k: torch.nn.functional.interpolate(v, SIZE) if isinstance(v, torch.Tensor) and v.ndim == 4 else v
        for k, v in batch.items()
    }
    return grown  # type: ignore[return-value]


def _memory(name: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) * 1024


def main() -> None:
    found: dict[str, list[tuple[int, float, int]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for _ in range(ROUNDS):
            for way, rows in found.items():
                rows.append(measure(way, Path(folder)))
    for way, rows in found.items():
        seconds = [row[1] for row in rows]
        print(
            f"{way:12} {rows[0][0] / 1e9:.2f} GB, median {statistics.median(seconds):.2f} s "
            f"[{min(seconds):.2f}, {max(seconds):.2f}], {max(row[2] for row in rows) / 1e9:.2f} GB of memory on top"
        )
    ratios = [a[1] / b[1] for a, b in zip(*found.values(), strict=True)]
    print(f"time, first over second: {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")


if __name__ == "__main__":
    main()
