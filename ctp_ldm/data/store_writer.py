"""Writing a slice store: case by case, each whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from ctp_ldm import __version__
from ctp_ldm.data.preparation import PreparedCase
from ctp_ldm.data.store import (
    DTYPES,
    FORMAT,
    MANIFEST,
    VERSION,
    CaseRecord,
    SliceStore,
    StoreError,
    checksum,
    damaged,
    plain_json,
)
from ctp_ldm.spec import DataSpec
from ctp_ldm.writing import whole_file


class StoreWriter:
    """Writes cases one by one; nothing that is half-written can be taken for whole. To be used in a `with`.

    Args:
        path: the store's folder; made when missing.
        spec: what the numbers mean.

    Raises:
        StoreError: the folder holds something else, or a store of another spec, or another process writes to it.
    """

    def __init__(self, path: Path, spec: DataSpec) -> None:
        self.path, self.spec = Path(path), spec
        self._cases = self.path / "cases"

    def __enter__(self) -> Self:
        path, header = self.path, self.path / "store.json"
        mine = {"format": FORMAT, "version": VERSION, "spec": self.spec.to_plain()}
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{path} is a file; expected a folder for the store")
        if self.path.is_dir() and any(self.path.iterdir()):
            if not header.is_file():
                raise StoreError(f"{path} is not empty and not a slice store; choose an empty or a new folder")
            if json.loads(header.read_text()) != mine:
                raise StoreError(
                    f"{path} was prepared with other settings (task, spacing, size, slice_thickness or "
                    "version); choose another folder or remove it"
                )
        self._cases.mkdir(parents=True, exist_ok=True)
        _write_json(header, mine)
        self._lock = FileLock(path / "store.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreError(f"another process is writing to {path}; wait for it, or choose another folder") from error
        # Cases may be written anew from here on: until `finish` an earlier manifest would describe other arrays.
        (self.path / MANIFEST).unlink(missing_ok=True)
        for leftover in self._cases.glob(".*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __getstate__(self) -> dict[str, Any]:
        # Workers write cases under their parent's lock.
        return {k: v for k, v in self.__dict__.items() if k != "_lock"}

    def finished(self, name: str, origin: dict[str, Any], verify: bool = False) -> CaseRecord | None:
        """The record of a case that is already there, made from the same files with the same settings.

        Args:
            name: of the case.
            origin: what it should have been made from.
            verify: also compare its arrays with their checksums.
        """
        path = self._cases / name / "case.json"
        try:
            content = json.loads(path.read_text())
            record = CaseRecord.from_plain(content["record"], self.spec)
            good = record.name == name and content["origin"] == origin
            return record if good and not (verify and damaged(path.parent, record, self.spec)) else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # missing or damaged: the case is made anew

    def write(self, name: str, prepared: PreparedCase, origin: dict[str, Any]) -> CaseRecord:
        """Write one case: all files into a hidden folder, which then gets its name."""
        partial, final = self._cases / f".{name}", self._cases / name
        partial.mkdir()
        checksums = {}
        for kind, dtype in DTYPES.items():
            array = getattr(prepared, kind)
            if array is not None:
                stored = np.ascontiguousarray(array, dtype=dtype)
                np.save(partial / f"{kind}.npy", stored, allow_pickle=False)
                checksums[kind] = [checksum(slice_) for slice_ in stored]
        record = CaseRecord(
            name=name,
            geometry=prepared.geometry,
            brain_voxels=[int(n) for n in prepared.brain.sum(axis=(1, 2))],
            lesion_voxels=None if prepared.lesion is None else [int(n) for n in prepared.lesion.sum(axis=(1, 2))],
            digests=prepared.digests,
            checksums=checksums,
            remarks=prepared.remarks,
            resampling=prepared.resampling,
        )
        _write_json(partial / "case.json", {"record": record.to_plain(), "origin": origin})
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        return record

    def finish(self, records: list[CaseRecord]) -> SliceStore:
        """Write the manifest, which makes the folder a store."""
        _write_json(
            self.path / MANIFEST,
            {
                "format": FORMAT,
                "version": VERSION,
                "made_by": f"ctp-ldm {__version__}",
                "spec": self.spec.to_plain(),
                "cases": [record.to_plain() for record in records],
            },
        )
        return SliceStore(self.path)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(plain_json(content))
