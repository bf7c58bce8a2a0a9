"""A small published model as a file."""

from pathlib import Path

import pytest

from ctp_ldm.interop import write_compvis

from . import published


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "diffusion.ckpt"
    write_compvis(published.model(), path)
    return path
