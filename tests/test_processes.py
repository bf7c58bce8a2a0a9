"""Two real processes train, evaluate and predict as one does."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from launching import run_to_end
from running import options

pytestmark = pytest.mark.slow

PATIENTS = ["--data.split=ctp_ldm.data.RandomSplit", "--data.split.test=0.4", "--data.split.val=0.2"]
"""Three of eight to test: two processes cannot share them evenly."""


def fit(stage: str, store: Path, folder: Path, base: object = "null", *more: str) -> str:
    """Twelve steps of a tiny stage in two processes."""
    arguments = [
        *options(f"demo/{stage}.yaml", store, folder),
        *PATIENTS,
        f"--init_from={base}",
        "--trainer.callbacks+=watching.Dump",
        f"--trainer.default_root_dir=runs/{stage}",
        "--trainer.max_steps=12",
        "--trainer.val_check_interval=6",
        *more,
    ]
    return run_to_end(["fit", *arguments], folder, processes=2)


def weights(folder: Path, stage: str) -> list[dict[str, torch.Tensor]]:
    """Of both processes."""
    return [torch.load(folder / f"runs/{stage}/rank-{rank}.pt", weights_only=True) for rank in (0, 1)]


def assert_same(found: list[dict[str, torch.Tensor]]) -> None:
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_the_discriminator_ends_alike_in_both_processes(store: Path, tmp_path: Path) -> None:
    network = "{_class_name: PatchDiscriminator, channels: 8, num_layers_d: 2}"
    more = [f"--model.discriminator={network}", "--model.adversarial_start=4", "--trainer.accumulate_grad_batches=2"]
    fit("autoencoder", store, tmp_path, "null", *more, "--trainer.gradient_clip_val=0.5", "--trainer.max_steps=8")
    both = weights(tmp_path, "autoencoder")
    assert any(name.startswith("discriminator.") for name in both[0])
    assert_same(both)


@pytest.mark.parametrize("stage", ["diffusion", "posttrain"])
def test_both_processes_end_with_the_same_weights_and_latent_scale(
    stage: str, store: Path, bases: dict[str, Path], tmp_path: Path
) -> None:
    said = fit(stage, store, tmp_path, bases["autoencoder" if stage == "diffusion" else "diffusion"])
    both = weights(tmp_path, stage)
    assert both[0]["latent_std"].isfinite().all()
    assert_same(both)
    assert said.count("run folder: ") == 1
    assert said.count("samples per step: 8 (data.batch_size 4 × 1 accumulated × 2 processes)") == 1
    root = tmp_path / f"runs/{stage}"
    assert len(list(root.glob("events.out.tfevents.*"))) == 1
    assert sorted(p.name for p in (root / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert [(root / f"sanity-{rank}.txt").read_text() for rank in (0, 1)] == ["0", "0"]  # reset in both


def test_evaluation_and_predictions_are_those_of_one_process(
    store: Path, bases: dict[str, Path], tmp_path: Path
) -> None:
    tables, volumes = [], []
    for processes in (1, 2):
        root = tmp_path / f"runs/{processes}"
        arguments = [
            *options("demo/diffusion.yaml", store, tmp_path),
            *PATIENTS,
            f"--ckpt_path={bases['diffusion']}",
            f"--trainer.default_root_dir={root}",
        ]
        run_to_end(["test", *arguments], tmp_path, processes)
        said = run_to_end(["predict", *arguments], tmp_path, processes)
        assert said.count("predictions: ") == 1
        tables.append([(root / name).read_text() for name in ("test/patients.csv", "test/summary.json")])
        found = sorted((root / "predictions").rglob("*.nii.gz"))
        volumes.append({path.relative_to(root): np.asanyarray(nib.load(path).dataobj) for path in found})
    assert tables[0] == tables[1]
    assert tables[0][0].count("\n") == 1 + 3
    assert volumes[0].keys() == volumes[1].keys()
    assert len(volumes[0]) == 2 * 3
    for path, values in volumes[0].items():
        assert np.array_equal(values, volumes[1][path]), path


def test_validation_is_that_of_one_process(store: Path, bases: dict[str, Path], tmp_path: Path) -> None:
    said = []
    for processes in (1, 2):
        arguments = [
            *options("demo/diffusion.yaml", store, tmp_path),
            *PATIENTS,
            f"--ckpt_path={bases['diffusion']}",
            f"--trainer.default_root_dir={tmp_path}/runs/val-{processes}",
        ]
        said.append(run_to_end(["validate", *arguments], tmp_path, processes))
    figures = [[line for line in text.splitlines() if "val/" in line] for text in said]
    assert len(figures[0]) > 5
    assert figures[0] == figures[1]


def test_more_processes_than_patients_count_nobody_twice(store: Path, bases: dict[str, Path], tmp_path: Path) -> None:
    arguments = [
        *options("demo/diffusion.yaml", store, tmp_path),
        f"--ckpt_path={bases['diffusion']}",
        f"--trainer.default_root_dir={tmp_path}/runs/few",
    ]
    run_to_end(["test", *arguments], tmp_path, 2)
    assert (tmp_path / "runs/few/test/patients.csv").read_text().count("\n") == 1 + 1
    run_to_end(["predict", *arguments], tmp_path, 2)
    assert len(list((tmp_path / "runs/few/predictions").rglob("*.nii.gz"))) == 2
