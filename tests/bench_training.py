"""How long an optimiser step of each full-size network takes on a GPU: `make bench-training`.

The shipped configs with their batch sizes, in Lightning's Trainer, on one random batch that is on the GPU already:
what is measured is the network and its losses, not the loader. The first steps, which compile and choose kernels, do
not count.
"""

import argparse
import gc
import json
import statistics
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from samples import optimizer, trainer
from shipped import STAGES, build, random_images

WARM_UP, STEPS = 8, 20
WAYS: dict[str, dict[str, Any]] = {
    "float32 (TF32)": {"precision": "32-true"},
    "bfloat16": {"precision": "bf16-mixed"},
    "bfloat16, channels last": {"precision": "bf16-mixed", "channels_last": True},
    "bfloat16, compiled": {"precision": "bf16-mixed", "compile": True},
}


class Stopwatch(L.Callback):
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def measure(
    stage: str, folder: Path, precision: str, channels_last: bool = False, compile: bool = False
) -> dict[str, Any]:
    """Milliseconds of a step, slices per second and GiB of GPU memory."""
    module, slices = build(stage, optimizer=optimizer(1e-5), **({"compile": True} if compile else {}))
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
    watch, batch = Stopwatch(), random_images(module.spec, slices, "cuda")
    torch.cuda.reset_peak_memory_stats()
    run = trainer(folder, accelerator="gpu", precision=precision, max_steps=WARM_UP + STEPS, callbacks=[watch])
    run.fit(module, torch.utils.data.DataLoader([batch] * (WARM_UP + STEPS), batch_size=None))  # type: ignore[arg-type]
    seconds = watch.seconds[WARM_UP:]
    median = statistics.median(seconds)
    return {
        "batch": slices,
        "milliseconds": [round(1e3 * t, 2) for t in (median, min(seconds), max(seconds))],
        "slices_per_second": round(slices / median, 1),
        "memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-training"))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU that PyTorch can use; what is measured is one")
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    result: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "stages": {}}
    for way in options.ways:
        settings = WAYS[way]
        for stage in STAGES:
            if settings.get("compile") and stage == "autoencoder":
                continue  # only the denoiser can be
            found = measure(stage, out, **settings)
            result["stages"].setdefault(stage, {})[way] = found
            (out / "bench.json").write_text(json.dumps(result, indent=1))
            milliseconds, low, high = found["milliseconds"]
            print(
                f"{stage:12} {way:24} {milliseconds:8.1f} ms [{low:.1f}, {high:.1f}], "
                f"{found['slices_per_second']:.1f} slices/s, {found['memory_gib']} GiB",
                flush=True,
            )
            gc.collect()
            torch.cuda.empty_cache()
    print(out / "bench.json")


if __name__ == "__main__":
    main()
