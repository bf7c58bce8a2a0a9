"""One run at a time in a folder."""

import errno
import fcntl
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from filelock import FileLock

from ctp_ldm.runs import hold
from ctp_ldm.runs.folder import RunFolderError

HOLDER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from ctp_ldm.runs import hold
    with hold(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
""")


def is_free(folder: Path) -> bool:
    try:
        with hold(folder):
            return True
    except RunFolderError:
        return False


def test_a_folder_is_made_and_held_once(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "autoencoder"
    with hold(folder), pytest.raises(RunFolderError) as refused, hold(folder):
        pass
    assert f"another run is training in {folder}" in str(refused.value)
    assert "wait for it, stop it, or choose another trainer.default_root_dir" in str(refused.value)
    assert is_free(folder)


def test_a_refused_run_does_not_free_the_folder_of_the_first(tmp_path: Path) -> None:
    with hold(tmp_path):
        assert not is_free(tmp_path)
        assert not is_free(tmp_path)


def test_other_folders_are_free_meanwhile(tmp_path: Path) -> None:
    with hold(tmp_path / "one"):
        assert is_free(tmp_path / "two")


def test_any_other_lock_on_the_file_counts(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".training"):
        assert not is_free(tmp_path)
    assert is_free(tmp_path)


def test_an_exception_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), hold(tmp_path):
        raise KeyError("in training")
    assert is_free(tmp_path)


def test_another_process_keeps_the_folder_until_it_dies(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert not is_free(tmp_path)
        process.kill()
        process.wait()
        assert is_free(tmp_path)


def test_without_locks_a_run_starts_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.warns(UserWarning, match="knows no locks: a second run there would not be noticed"):
        assert is_free(tmp_path)


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_that_refuses_locks_does_not_keep_a_run_from_starting(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As network file systems without a lock service answer."""
    number = getattr(errno, name)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="knows no locks"):
        assert is_free(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot be made"), hold(tmp_path / "file" / "run"):
        pass
