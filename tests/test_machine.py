"""Faults of the machine are told apart, with what helps against each, and no file is blamed for them."""

import errno
import os
import resource
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from ctp_ldm import cli
from ctp_ldm.data import SliceStore
from ctp_ldm.data import volumes as volumes_module
from ctp_ldm.data.volumes import read_volume
from ctp_ldm.machine import REMEDIES


def of_errno(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/some.nii.gz")


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (of_errno(errno.EMFILE), "ulimit -n"),
        (of_errno(errno.ENOSPC), "the disk is full"),
        (of_errno(errno.EDQUOT), "your share of this disk"),
        (of_errno(errno.EROFS), "can only be read"),
        (of_errno(errno.EACCES), "change the permissions"),
        (of_errno(errno.ENOMEM), "fewer workers"),
        (MemoryError("Unable to allocate 90. GiB"), "90. GiB.*fewer workers"),
        (MemoryError(), "fewer workers"),
        (BrokenProcessPool("ended abruptly"), "a worker process was ended from outside.*fewer workers"),
    ],
)
def test_a_fault_of_the_machine_is_one_line_with_what_helps(
    error: BaseException, helps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "run", fail)
    with pytest.raises(SystemExit, match=f"ctp-ldm: error: .*{helps}") as told:
        cli.main(["prepare"])
    assert "\n" not in str(told.value.code)
    if isinstance(error, OSError):
        assert "/data/some.nii.gz" in str(told.value.code)


def test_every_remedy_is_another() -> None:
    assert len(set(REMEDIES.values())) == len(REMEDIES)


def test_what_is_no_fault_of_the_machine_stays_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise of_errno(errno.EBADF)

    monkeypatch.setattr(cli, "run", fail)
    with pytest.raises(OSError, match="Bad file descriptor"):
        cli.main(["prepare"])


@pytest.fixture
def few_files() -> Iterator[int]:
    """At most so many files can be open beside those that are."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, before[1]))
    yield 10
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")


@needs_proc
def test_a_store_of_more_arrays_than_there_may_be_open_files_is_read(store: Path, few_files: int) -> None:
    opened = SliceStore(store)
    held = [opened.read(name, kind) for name, record in opened.records.items() for kind in record.checksums]
    assert len(held) > few_files


@needs_proc
def test_too_many_open_files_are_no_fault_of_the_file_that_could_not_be_opened(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(tree.rglob("*_adc.nii.gz"))

    def fail(*_: object, **__: object) -> None:
        raise of_errno(errno.EMFILE)

    monkeypatch.setattr(volumes_module.nib, "load", fail)
    with pytest.raises(OSError, match="Too many open files"):
        read_volume(path, 3)
