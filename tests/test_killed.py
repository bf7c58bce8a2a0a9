"""Runs killed at random points end, bit by bit, where uninterrupted ones do: each stage, in one or two processes."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import PLACES
from launching import Run, run_to_end
from running import SMALL

from ctp_ldm import cli

KILLS = 20
STEPS = 64
GRID = ["--data.spacing=6", "--data.size=[32,48]"]  # multiples of 16, as unshuffling and the U-Net want them


def demo(stage: str, store: Path, base: str, run: str, steps: int) -> list[str]:
    """The demo's own networks, on the test's small grid."""
    return [
        "fit",
        f"--config=demo/{stage}.yaml",
        *GRID,
        *SMALL,
        f"--data.store={store}",
        "--data.batch_size=3",
        "--data.lesion_oversampling=1.5",
        "--model.lr_scheduler=null",
        f"--init_from={base}",
        f"--trainer.default_root_dir=runs/{run}",
        f"--trainer.max_steps={steps}",
        "--trainer.val_check_interval=7",
        "--trainer.limit_val_batches=2",
    ]


@pytest.fixture(scope="module")
def wide_store(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide") / "store"
    cli.run(["prepare", str(tree), str(folder), *GRID, "--workers=1"])
    return folder


@pytest.fixture(scope="module")
def demo_bases(wide_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Stage → checkpoint that it starts from."""
    folder = tmp_path_factory.mktemp("demo-bases")
    found = {"autoencoder": "null"}
    for stage, following in (("autoencoder", "diffusion"), ("diffusion", "posttrain")):
        run_to_end(demo(stage, wide_store, found[stage], stage, steps=14), folder)
        found[following] = str(folder / f"runs/{stage}/checkpoints/best.ckpt")
    return found


def content(folder: Path, run: str, name: str) -> dict[str, Any]:
    return dict(torch.load(folder / f"runs/{run}/checkpoints/{name}.ckpt", weights_only=True))


def assert_equal(found: Any, expected: Any, where: str = "") -> None:
    """Bit by bit, all the way down."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_equal(found[key], value, f"{where}/{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            assert_equal(found[i], value, f"{where}/{i}")
    else:
        assert found == expected, where


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "processes"), [("autoencoder", 2), ("diffusion", 1), ("posttrain", 2)])
def test_a_run_that_is_killed_twenty_times_ends_as_an_uninterrupted_one(
    stage: str, processes: int, wide_store: Path, demo_bases: dict[str, str], tmp_path: Path
) -> None:
    run_to_end(demo(stage, wide_store, demo_bases[stage], "straight", STEPS), tmp_path, processes)
    arguments = [*demo(stage, wide_store, demo_bases[stage], "killed", STEPS), "--checkpoint.every_n_steps=2"]
    draw = random.Random(f"{stage} {processes}")
    happened = []
    for kill in range(KILLS):
        place, after, rank = draw.choice(PLACES), draw.randint(1, 4), draw.randrange(processes)
        if place in ("written", "moved"):
            rank = 0  # which writes
        options = ["--trainer.callbacks+=killing.Kill", f"--trainer.callbacks.place={place}"]
        options += [f"--trainer.callbacks.after={after}", f"--trainer.callbacks.rank={rank}"]
        run = Run([*arguments, *options], tmp_path, processes, f"kill-{kill}")
        codes = run.wait()
        happened.append((place, after, rank, codes))
        # The first process names the signal. Beside one that was killed others may find the connection broken.
        allowed = [{143}, {0}] if place.startswith("asked") else [{-9, 1}, {-9, 1}]
        for code, expected in zip(codes, allowed, strict=False):
            assert code in expected, (happened[-1], run.said()[-3000:])
        assert place.startswith("asked") or codes[rank] == -9, happened[-1]
    said = run_to_end(arguments, tmp_path, processes)
    assert "resuming from" in said
    for name in ("last", "best"):
        straight, killed = content(tmp_path, "straight", name), content(tmp_path, "killed", name)
        assert straight["global_step"] == killed["global_step"]
        for key in ("state_dict", "ema", "optimizer_states"):
            assert_equal(killed[key], straight[key], f"{name}/{key}")
