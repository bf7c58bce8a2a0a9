"""What outputs say of where things lie."""

from pathlib import Path

import pytest

from ctp_ldm.paths import shown_command, shown_path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("runs/a/checkpoints/best.ckpt", "runs/a/checkpoints/best.ckpt"),
        ("HERE/runs/a", "runs/a"),
        ("/data/Jane Doe/a/checkpoints/best.ckpt", "a/checkpoints/best.ckpt"),
        ("/data/Jane Doe/model.ckpt", "model.ckpt"),
        ("../Jane Doe/a", "a"),
        ("runs/../../Jane Doe/a", "a"),
    ],
)
def test_a_path_outside_is_only_its_end(here: Path, path: str, expected: str) -> None:
    assert shown_path(path.replace("HERE", str(here))) == expected


def test_below_the_root_folder_not_everything_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert shown_path("/data/Jane Doe/model.ckpt") == "model.ckpt"


def test_a_command_line_has_no_absolute_path(here: Path) -> None:
    words = [
        "/opt/venv/bin/ctp-ldm",
        "test",
        "--data.root=/data/Jane Doe/isles",
        "/data/Jane Doe/x",
        f"{here}/runs/a",
        "[/data/Jane Doe/a, runs/b]",
        '{"root": "/data/Jane Doe/c"}',
        "--lr=1e-4",
        "configs/a.yaml",
    ]
    assert shown_command(words) == [
        "ctp-ldm",
        "test",
        "--data.root=isles",
        "x",
        "runs/a",
        "[a, runs/b]",
        '{"root": "c"}',
        "--lr=1e-4",
        "configs/a.yaml",
    ]
