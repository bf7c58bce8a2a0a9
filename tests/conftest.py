"""A tiny simulated data set, trained bases, and the command run in-process, for whole-pipeline tests."""

import os
from pathlib import Path

import pytest
from running import GRID, Command, options

from ctp_ldm.cli import run
from ctp_ldm.phantom import write_phantom


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ISLES'24-style tree of eight simulated patients."""
    folder = tmp_path_factory.mktemp("phantom") / "tree"
    write_phantom(folder, cases=8, seed=3, size="tiny", workers=1)
    return folder


@pytest.fixture(scope="session")
def store(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree, prepared at 6 mm on 32 × 40."""
    folder = tmp_path_factory.mktemp("prepared") / "store"
    run(["prepare", str(tree), str(folder), *GRID, "--workers=1"])
    return folder


@pytest.fixture(scope="session")
def bases(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of four-step runs of the demo's first two stages, with tiny networks."""
    return train_bases("demo/", store, tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="session")
def full_bases(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same for the full-size configs, with tiny networks of the same kinds."""
    return train_bases("", store, tmp_path_factory.mktemp("full_bases"))


def train_bases(prefix: str, store: Path, folder: Path) -> dict[str, Path]:
    """Stage → best checkpoint."""
    made: dict[str, Path] = {}
    for stage, base in (("autoencoder", None), ("diffusion", "autoencoder")):
        name = f"{prefix}{stage}.yaml"
        root = folder / stage
        start = f"--init_from={made[base] if base else 'null'}"
        length = ["--trainer.max_steps=4", "--trainer.val_check_interval=2", f"--trainer.default_root_dir={root}"]
        run(["fit", *options(name, store, folder), start, *length])
        made[stage] = root / "checkpoints" / "best.ckpt"
    return made


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `ctp-ldm …` in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run([str(a) for a in arguments])


@pytest.fixture
def shared_data() -> Path:
    """The folder of real test data that lies beside the project; the test is skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs {os.path.relpath(folder, Path(__file__).parents[1])}, which is not there")
    return folder
