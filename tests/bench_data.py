"""How fast slices come: `make bench-data`. Ratios within one run, because machines and their load differ.

Each variant gives one epoch of the same slices, with two workers, in batches of eight, from a warm page cache; variants
take turns, round after round. What is compared:

    store              this project: memory-mapped half precision, moved in the workers, only where the brain is
    published          five float32 .npy files per slice, opened one by one, MONAI's dictionary transforms per slice
    published files    the same files, moved as this project does: what the storage alone is worth
    NIfTI              volumes opened for each slice; a few slices only
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ctp_ldm.data import CTPToDiffusionMRI, ListedSplit, SliceStore, prepare
from ctp_ldm.data.augment import SHIFT_MM, PublishedAugmentation, move, move_slice
from ctp_ldm.data.cases import Case, find_cases
from ctp_ldm.data.sampling import Draw
from ctp_ldm.data.slices import SliceDataset
from ctp_ldm.phantom import write_phantom

ARRAYS = ("ctp", "dwi", "adc", "mask", "lesion")
BATCH, WORKERS = 8, 2
GRID = (192, 224)


class PublishedFiles(Dataset[dict[str, Any]]):
    """Slices as the published system stores them, with its augmentation or with ours still to be applied."""

    def __init__(self, folders: list[Path], monai: bool) -> None:
        self.folders, self.transform = folders, _monai() if monai else None
        self.draw = PublishedAugmentation(1.0, GRID)

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, i: int) -> dict[str, Any]:
        sample = {name: torch.from_numpy(np.load(self.folders[i] / f"{name}.npy")) for name in ARRAYS}
        if self.transform is not None:
            return {name: torch.as_tensor(values.numpy()) for name, values in self.transform(sample).items()}
        brain = sample.pop("mask")
        moved = move_slice({"brain": brain, **sample}, self.draw(Draw(i, 0, 0)), brain[0].numpy() > 0)
        return dict(moved)


class NiftiFiles(Dataset[dict[str, Any]]):
    """Slices straight from compressed volumes, without any preparation of their values."""

    def __init__(self, cases: list[Case], slices: int) -> None:
        self.items = [(case, z) for case in cases for z in range(8, 24)][:slices]
        self.draw = PublishedAugmentation(1.0, GRID)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> dict[str, Any]:
        case, z = self.items[i]
        sample: dict[str, Any] = {}
        for role in ("ctp", "dwi", "adc", "lesion"):
            image = np.asarray(nib.load(case.files[role]).dataobj[:, :, z], dtype=np.float32)  # type: ignore[attr-defined]
            frames = image[..., ::3][..., :16] if image.ndim == 3 else image[..., None]
            sample[role] = torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, 0)))
        return {**sample, "move": self.draw(Draw(i, 0, 0))}


def _monai() -> Callable[[dict[str, torch.Tensor]], dict[str, Any]]:
    """The published augmentation as dictionary transforms."""
    from monai.transforms import Compose, RandAffined, RandFlipd

    modes = ["bilinear", "bilinear", "bilinear", "nearest", "nearest"]
    return Compose(
        [
            RandFlipd(ARRAYS, prob=0.5, spatial_axis=0),
            RandFlipd(ARRAYS, prob=0.5, spatial_axis=1),
            RandAffined(
                ARRAYS,
                prob=0.9,
                rotate_range=np.pi / 16,
                translate_range=(SHIFT_MM, SHIFT_MM),
                scale_range=(0.001, 0.001),
                mode=modes,
                padding_mode="border",
            ),
        ]
    )


def write_published(store: SliceStore, out: Path) -> list[Path]:
    """The store's training slices as five float32 .npy files each, all of CTP's channels in one of them."""
    slices = SliceDataset(store, list(store.records), 0.02)
    folders = []
    for i, (case, z) in enumerate(slices.index):
        folder = out / f"{case}_{z:03d}"
        folders.append(folder)
        if (folder / "lesion.npy").is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        item = {k: v.float().numpy() for k, v in slices[i].items() if isinstance(v, torch.Tensor)}
        arrays = (item["source"], item["target"][:1], item["target"][1:], item["brain"], item["lesion"])
        for name, values in zip(ARRAYS, arrays, strict=True):
            np.save(folder / f"{name}.npy", values)
    return folders


def moved(loader: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Batches of float arrays, moved as whole batches."""
    for batch in loader:
        theta = batch.pop("move")
        yield move({k: v.float() for k, v in batch.items()}, theta)


def rate(batches: Iterable[dict[str, Any]]) -> float:
    """Slices per second of one epoch, workers already running."""
    start, slices = time.perf_counter(), 0
    for batch in batches:
        slices += len(next(v for v in batch.values() if isinstance(v, torch.Tensor)))
    return slices / (time.perf_counter() - start)


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median duration."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def opening(store: SliceStore, out: Path, patients: int = 1000) -> tuple[float, float]:
    """Milliseconds to open a store of so many patients, and MiB of its manifest; its arrays do not exist."""
    content = json.loads((store.path / "manifest.json").read_text())
    content["cases"] = [{**content["cases"][i % len(content["cases"])], "name": f"p{i}"} for i in range(patients)]
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").write_text(json.dumps(content, separators=(",", ":")))
    return 1e3 * seconds(lambda: SliceStore(out)), (out / "manifest.json").stat().st_size / 2**20


def parts(data: CTPToDiffusionMRI) -> dict[str, float]:
    """Milliseconds per slice of what a worker does, in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert data.store is not None
    still, draw_move = SliceDataset(data.store, data.parts["train"], 0.02), PublishedAugmentation(1.0, GRID)
    draws = [Draw(i, 0, 0) for i in range(0, len(still), max(1, len(still) // BATCH))][:BATCH]
    arrays = [{k: v for k, v in still[draw].items() if isinstance(v, torch.Tensor)} for draw in draws]
    thetas = [draw_move(draw) for draw in draws]
    moved_slices = [move_slice(a, t, a["brain"][0].numpy() > 0) for a, t in zip(arrays, thetas, strict=True)]
    found = {
        "read": seconds(lambda: [still[draw] for draw in draws], 20),
        "draw": seconds(lambda: [draw_move(draw) for draw in draws], 20),
        "move": seconds(
            lambda: [move_slice(a, t, a["brain"][0].numpy() > 0) for a, t in zip(arrays, thetas, strict=True)], 20
        ),
        "collate": seconds(lambda: torch.utils.data.default_collate(moved_slices), 20),
    }
    torch.set_num_threads(threads)
    return {name: 1e3 * value / len(draws) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-data"))
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    out: Path = options.out
    write_phantom(out / "phantom", cases=options.patients, seed=0, size="full", workers=2)

    names = [f"sub-stroke{i:04d}" for i in range(1, options.patients + 1)]
    (out / "split.json").write_text(json.dumps({"train": names, "val": [], "test": []}))
    data = CTPToDiffusionMRI(
        str(out / "store"), batch_size=BATCH, num_workers=WORKERS, split=ListedSplit(out / "split.json"), seed=0
    )
    cases, _ = find_cases(data.layout, out / "phantom", data.task.roles)
    start = time.perf_counter()
    prepare(out / "phantom", out / "store-timed", data.task, data.layout, data.settings, workers=1)
    per_patient = (time.perf_counter() - start) / options.patients
    if not (out / "store").exists():
        (out / "store-timed").rename(out / "store")
    store = SliceStore(out / "store")
    data.store, data.parts = store, {"train": names}
    size = sum(p.stat().st_size for p in (out / "store" / "cases").rglob("*.npy")) / options.patients / 2**20

    folders = write_published(store, out / "published")
    loading: dict[str, Any] = {"batch_size": BATCH, "num_workers": WORKERS, "persistent_workers": True}
    ours = data.train_dataloader()
    files = DataLoader(PublishedFiles(folders, monai=False), shuffle=True, **loading)
    published = DataLoader(PublishedFiles(folders, monai=True), shuffle=True, **loading)
    nifti = DataLoader(NiftiFiles(cases, 8), **{**loading, "batch_size": 1})
    variants: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
        "store": lambda: (data.on_after_batch_transfer(batch, 0) for batch in ours),
        "published": lambda: published,
        "published files": lambda: files,
    }
    for make in variants.values():
        rate(make())  # workers start, pages come into the cache
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, make in variants.items():
            rates[name].append(rate(make()))
    rates["NIfTI"] = [rate(moved(nifti)) for _ in range(2)][1:] * options.rounds

    ratios = {
        name: [ours_ / theirs for ours_, theirs in zip(rates["store"], values, strict=True)]
        for name, values in rates.items()
    }
    open_ms, manifest_mib = opening(store, out / "thousand")
    result = {
        "slices": len(folders),
        "slices_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "store_over": {n: [min(v), statistics.median(v), max(v)] for n, v in ratios.items() if n != "store"},
        "milliseconds_per_slice_one_thread": parts(data),
        "prepare_seconds_per_patient": per_patient,
        "store_mib_per_patient": size,
        "open_1000_patients_ms": open_ms,
        "manifest_of_1000_patients_mib": manifest_mib,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    (out / "bench.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))
    print(f"\n{len(folders)} slices, {WORKERS} workers, {options.rounds} rounds: {out / 'bench.json'}")


if __name__ == "__main__":
    main()
