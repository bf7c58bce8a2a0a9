"""A checkpoint is written whole or not at all, and one that is not whole is noticed."""

import errno
import pickle
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ctp_ldm.runs import AtomicCheckpointIO, CheckpointError, files, read_checkpoint
from ctp_ldm.runs.files import require_whole


def content(value: float = 1.0) -> dict[str, Any]:
    """A checkpoint whose tensor is easily found in the file."""
    return {"ctp_ldm": {"stage": "diffusion"}, "state_dict": {"weight": torch.full((64, 64), value)}}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(), path)
    return path


def test_what_is_written_can_be_read_and_nothing_else_is_left(written: Path) -> None:
    assert torch.equal(read_checkpoint(written)["state_dict"]["weight"], torch.ones(64, 64))
    require_whole(written)
    assert list(written.parent.iterdir()) == [written]


# ----------------------------------------------------------------------------------------------------- failed writes


def full_disk(checkpoint: dict[str, Any], path: Path) -> None:
    """As the operating system says it."""
    Path(path).write_bytes(b"PK some bytes")
    raise OSError(errno.ENOSPC, "No space left on device")


def full_disk_in_torch(checkpoint: dict[str, Any], path: Path) -> None:
    """As torch's own writer says it."""
    Path(path).write_bytes(b"PK some bytes")
    raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598")


def interrupted(checkpoint: dict[str, Any], path: Path) -> None:
    Path(path).write_bytes(b"PK some bytes")
    raise KeyboardInterrupt


@pytest.mark.parametrize("save", [full_disk, full_disk_in_torch])
def test_a_failed_write_leaves_the_file_of_before_and_names_file_and_remedy(
    save: Callable[..., None], written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written.read_bytes()
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(CheckpointError) as failure:
        AtomicCheckpointIO().save_checkpoint(content(2.0), written)
    for part in (str(written), "what was there before is whole", "Make space", "the same command again"):
        assert part in str(failure.value)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_a_disk_that_fills_up_while_the_file_is_flushed_is_no_different(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written.read_bytes()
    monkeypatch.setattr(files, "_flush", lambda path: full_disk({}, path))
    with pytest.raises(CheckpointError, match="No space left on device"):
        AtomicCheckpointIO().save_checkpoint(content(2.0), written)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_an_interrupted_write_leaves_the_file_of_before_and_does_not_disturb_the_next(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            AtomicCheckpointIO().save_checkpoint(content(2.0), written)
    assert written.read_bytes() == before
    AtomicCheckpointIO().save_checkpoint(content(2.0), written)
    assert read_checkpoint(written)["state_dict"]["weight"][0, 0] == 2
    assert list(written.parent.iterdir()) == [written]


def test_the_new_file_takes_its_place_only_once_it_is_on_the_disk(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, flushed = written.read_bytes(), []

    def note(path: Path) -> None:
        flushed.append(path)
        assert (written.read_bytes() == before) == path.is_file()

    monkeypatch.setattr(files, "_flush", note)
    AtomicCheckpointIO().save_checkpoint(content(2.0), written)
    assert flushed == [written.with_name(".last.ckpt.partial"), written.parent]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file is in the way")
    with pytest.raises(CheckpointError, match=r"checkpoints.*could not be written"):
        AtomicCheckpointIO().save_checkpoint(content(), tmp_path / "checkpoints" / "last.ckpt")


# ----------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_noticed(share: float, written: Path) -> None:
    whole = written.read_bytes()
    written.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=rf"{written} is damaged"):
        require_whole(written)


def test_one_flipped_byte_inside_a_tensor_is_noticed(written: Path) -> None:
    whole = bytearray(written.read_bytes())
    place = whole.index(torch.ones(64).numpy().tobytes()) + 1000
    whole[place] ^= 1
    written.write_bytes(whole)
    read_checkpoint(written)  # without a word
    with pytest.raises(CheckpointError, match=r"is damaged: .*/data/0 does not have its checksum"):
        require_whole(written)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_truncated_file_is_not_loaded(share: float, written: Path) -> None:
    whole = written.read_bytes()
    written.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=rf"{written} cannot be loaded.* truncated or damaged; copy it anew"):
        read_checkpoint(written)


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("dump", "reason"),
    [
        (torch.save, r"it holds Python objects beside tensors \(getattr\).* is refused"),
        (partial(torch.save, _use_new_zipfile_serialization=False), "it is of torch's old format"),
        (lambda x, path: path.write_bytes(pickle.dumps(x)), "it is no torch checkpoint"),
    ],
    ids=["torch", "legacy", "bare"],
)
def test_code_in_a_checkpoint_is_refused_and_not_run(dump: Callable[..., Any], reason: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.ckpt", tmp_path / "trace"
    dump({**content(), "extra": Malicious(trace)}, path)
    refused = rf"evil\.ckpt cannot be loaded as tensors and plain data: {reason}.*ctp-ldm convert .* OUT --config DATA"
    with pytest.raises(CheckpointError, match=refused) as refusal:
        read_checkpoint(path)
    # Neither there nor in a traceback is torch's advice to run it.
    assert "weights_only" not in "".join(traceback.format_exception(refusal.value)).replace("weights_only=True", "")
    assert not trace.exists()


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.ckpt is missing; run the stage that writes it first"):
        read_checkpoint(tmp_path / "gone.ckpt")
    for number, foreign in enumerate(({"state_dict": {}}, [1, 2], {"ctp_ldm": {}})):
        path = tmp_path / f"{number}.ckpt"
        torch.save(foreign, path)
        with pytest.raises(
            CheckpointError, match=rf"{number}\.ckpt is not a checkpoint of ctp-ldm.*convert .*{number}\.ckpt OUT"
        ):
            read_checkpoint(path)
