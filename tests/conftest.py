"""A tiny simulated data set, trained bases, and the command run in-process, for whole-pipeline tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from running import GRID, SHIPPED, Command, base_of, options

from ctp_ldm.cli import run
from ctp_ldm.phantom import write_phantom

# The same examples in every run, however slow the machine.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


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
def published_store(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the published system's units."""
    folder = tmp_path_factory.mktemp("published") / "store"
    run(["prepare", str(tree), str(folder), "--config=published/diffusion.yaml", *GRID, "--workers=1"])
    return folder


@pytest.fixture(scope="session")
def trained_config(
    store: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], Path]:
    """Name of a shipped config → best checkpoint of four steps of it with tiny networks, after those of its base."""
    folder = tmp_path_factory.mktemp("trained")
    made: dict[str, Path] = {}

    def train(name: str) -> Path:
        if name not in made:
            base = base_of(name, SHIPPED)
            start = f"--init_from={train(base) if base else 'null'}"
            root = folder / name.replace("/", "-").removesuffix(".yaml")
            data = request.getfixturevalue("published_store") if name.startswith("published/") else store
            length = ["--trainer.max_steps=4", "--trainer.val_check_interval=2", f"--trainer.default_root_dir={root}"]
            run(["fit", *options(name, data, folder), start, *length])
            made[name] = root / "checkpoints" / "best.ckpt"
        return made[name]

    return train


@pytest.fixture(scope="session")
def bases(trained_config: Callable[[str], Path]) -> dict[str, Path]:
    """Checkpoints of the demo's first two stages, with tiny networks."""
    return {stage: trained_config(f"demo/{stage}.yaml") for stage in ("autoencoder", "diffusion")}


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
