"""The folder of a run, which belongs to one run at a time."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_warn

CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class RunFolderError(ValueError):
    """A run cannot live in its folder: another one is there, or the disk is too full."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the system ends this with the process, however that ends.

    Raises:
        RunFolderError: another run is training there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"the run's folder {folder} cannot be made ({error}): choose another one") from error
    lock = FileLock(folder / ".training")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunFolderError(
            f"another run is training in {folder}; wait for it, stop it, or choose another trainer.default_root_dir"
        ) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        rank_zero_warn(f"the file system of {folder} knows no locks: a second run there would not be noticed")
        yield
        return
    try:
        yield
    finally:
        lock.release()
