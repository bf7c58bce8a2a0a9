"""Faults of the machine, not of the data: what a user can do about each."""

import errno
from concurrent.futures.process import BrokenProcessPool

REMEDIES = {
    errno.EMFILE: "this process has as many open files as it may; raise the limit (ulimit -n 4096), or use fewer "
    "workers (--workers, --data.num_workers)",
    errno.ENFILE: "the whole machine has as many open files as it may; end other programs, or ask its administrator",
    errno.ENOSPC: "the disk is full; make room, or choose a folder on another one",
    errno.EDQUOT: "your share of this disk is used up; make room, or choose a folder on another one",
    errno.EROFS: "the disk can only be read; choose a folder on another one",
    errno.EACCES: "you may not read or write there; change the permissions, or choose another place",
    errno.EPERM: "you may not do this there; change the permissions, or choose another place",
    errno.ENOMEM: "there is not enough memory; use fewer workers (--workers, --data.num_workers) or a larger machine",
    errno.EIO: "the disk could not be read or written; it may be failing, or its connection is gone",
    errno.ESTALE: "the network disk has lost this file; the same command may go on when the disk is back",
}


def is_of_machine(error: BaseException) -> bool:
    """Whether the same command on the same data could go well elsewhere: no file is to blame, and none to be mended."""
    return isinstance(error, MemoryError | BrokenProcessPool) or (
        isinstance(error, OSError) and error.errno in REMEDIES
    )


def is_exhausted(error: BaseException) -> bool:
    """Whether the process has run out of something: an error while a file was read does not speak of the file then."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def in_words(error: BaseException) -> str:
    """What happened to what, and what helps, of an error `is_of_machine`."""
    if isinstance(error, BrokenProcessPool):
        return (
            "a worker process was ended from outside, most often because memory was out; use fewer workers "
            "(--workers); the same command goes on where this one was"
        )
    if isinstance(error, OSError):
        name = "" if error.filename is None else f"{error.filename}: "
        return f"{name}{error.strerror}: {REMEDIES[error.errno or 0]}"
    return f"out of memory ({error}): {REMEDIES[errno.ENOMEM]}" if str(error) else REMEDIES[errno.ENOMEM]
