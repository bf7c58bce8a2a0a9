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
import yaml
from samples import trainer

from ctp_ldm.configuration import shipped_configs
from ctp_ldm.data import CTPToDiffusionMRI
from ctp_ldm.losses import RegionError
from ctp_ldm.modules import AutoencoderModule, LatentDiffusionModule, LesionAwarePostTraining
from ctp_ldm.sample import Sample

STAGES = {
    "autoencoder": AutoencoderModule,
    "diffusion": LatentDiffusionModule,
    "posttrain": LesionAwarePostTraining,
}
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


def build(stage: str, compiled: bool) -> tuple[Any, int]:
    """The shipped module with random weights, and its batch size."""
    config = yaml.safe_load((shipped_configs() / f"{stage}.yaml").read_text())
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    learning_rate = model.pop("optimizer")["init_args"]["lr"]
    if "terms" in model:
        model["terms"] = [RegionError(**term["init_args"]) for term in model["terms"]]
    if compiled:
        model["compile"] = True
    spec = CTPToDiffusionMRI().task.spec(data["spacing"], tuple(data["size"]))
    torch.manual_seed(0)
    module = STAGES[stage](
        spec.to_plain(), optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=learning_rate), **model
    )
    if isinstance(module, LatentDiffusionModule):
        module.base = "random weights"  # it may train all the same
        module.latent_mean.zero_()
        module.latent_std.fill_(1.0)
    return module, data["batch_size"]


def batch_of(module: Any, slices: int) -> Sample:
    """Random images with a tenth of lesion."""
    spec = module.spec

    def noise(channels: int) -> torch.Tensor:
        return torch.rand(slices, channels, *spec.size, device="cuda") * 2 - 1

    return {
        "source": noise(len(spec.source)),
        "target": noise(len(spec.target)),
        "brain": torch.ones(slices, 1, *spec.size, device="cuda"),
        "lesion": (noise(1) > 0.8).float(),
        "case": ["a"] * slices,
        "slice_index": torch.arange(slices, device="cuda"),
    }


def measure(
    stage: str, folder: Path, precision: str, channels_last: bool = False, compile: bool = False
) -> dict[str, Any]:
    """Milliseconds of a step, slices per second and GiB of GPU memory."""
    module, slices = build(stage, compile)
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
    watch, batch = Stopwatch(), batch_of(module, slices)
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
