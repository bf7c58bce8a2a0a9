"""One tiny phantom, and the store made from it; tests that break files get a copy of their own."""

import shutil
from pathlib import Path

import pytest

from ctp_ldm.data import ISLES24, CTPToDiffusionMRI, Settings, prepare
from ctp_ldm.phantom import Mix, write_phantom

CASES, SEED, MIX = 6, 1, Mix(lesion_free=0.2)
SETTINGS = Settings(spacing=6.0, size=(32, 40))


@pytest.fixture(scope="session")
def shared_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients in ISLES'24 layout, for reading only."""
    out = tmp_path_factory.mktemp("data") / "phantom"
    write_phantom(out, cases=CASES, seed=SEED, size="tiny", workers=1, mix=MIX)
    return out


@pytest.fixture(scope="session")
def shared_store(shared_tree: Path) -> Path:
    """The finished store of `shared_tree`, for reading only."""
    path = shared_tree.parent / "store"
    prepare(shared_tree, path, CTPToDiffusionMRI().task, ISLES24(), SETTINGS, workers=1)
    return path


@pytest.fixture
def tree(shared_tree: Path, tmp_path: Path) -> Path:
    """A copy of `shared_tree` to break."""
    return Path(shutil.copytree(shared_tree, tmp_path / "phantom"))


@pytest.fixture
def store(shared_store: Path, tmp_path: Path) -> Path:
    """A copy of `shared_store` to break."""
    return Path(shutil.copytree(shared_store, tmp_path / "finished"))
