"""The prepared slice store: memory-mapped, slice-major, written atomically.

    STORE/manifest.json            versions, data spec, and a record of each case with checksums
    STORE/cases/<name>/source.npy  (Z, Cs, H, W) float16    target.npy likewise
    STORE/cases/<name>/brain.npy   (Z, H, W) uint8          lesion.npy likewise
    STORE/cases/<name>/case.json   the case's record and what it was made from

Half precision: in [−1, 1] it rounds by at most 2⁻¹² = 2.4e-4. That is 0.4 × 10⁻⁶ mm²/s of ADC, 0.0005 of relative
DWI, 0.01 HU before contrast, and of enhancement 0.002 HU at 5 HU and 0.2 HU at 200 HU: a hundredth of the noise (the
tests compute these from the scalings).
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from ctp_ldm import __version__
from ctp_ldm.data.preparation import PreparedCase
from ctp_ldm.geometry import Geometry
from ctp_ldm.spec import DataSpec

FORMAT, VERSION = "ctp-ldm slice store", 4
MANIFEST = "manifest.json"
Kind = Literal["source", "target", "brain", "lesion"]


class StoreError(ValueError):
    """A folder is not a slice store that can be used here."""


@dataclass(frozen=True)
class CaseRecord:
    """What the manifest knows of a case, so that its arrays need not be opened.

    brain_voxels, lesion_voxels: voxels of each slice; lesion_voxels is None where there is no lesion mask.
    digests: role → digest of the content of the image file it was made from.
    checksums: array → BLAKE2 checksum of its file.
    remarks: what is odd about the case, in the words of `check`.
    resampling: noise and sharpness in the file and on the grid (`resampled.Resampled`).
    """

    name: str
    geometry: Geometry
    brain_voxels: list[int]
    lesion_voxels: list[int] | None
    has_target: bool
    digests: dict[str, str]
    checksums: dict[str, str]
    remarks: list[str]
    resampling: dict[str, Any]

    def complete(self, needs_lesion: bool) -> bool:
        """Whether the case can be trained and tested on."""
        return self.has_target and not (needs_lesion and self.lesion_voxels is None)

    def to_plain(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**self.__dict__, "geometry": self.geometry.to_plain()}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Rebuild from `to_plain`."""
        return cls(**{**plain, "geometry": Geometry.from_plain(plain["geometry"])})


class SliceStore:
    """A finished store, for reading. Opening it reads the manifest only.

    Raises:
        StoreError: the folder is missing, unfinished, of another version, or its manifest is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        manifest = self.path / MANIFEST
        if not manifest.is_file():
            state = "is an unfinished store" if (self.path / "cases").is_dir() else "is not a slice store"
            raise StoreError(f"{path} {state} (no {MANIFEST}); make it with: ctp-ldm prepare SOURCE {path}")
        try:
            content = json.loads(manifest.read_text())
            found = (content.get("format"), content.get("version"))
            if found != (FORMAT, VERSION):
                raise StoreError(
                    f"{manifest} is of {found[0]!r} version {found[1]!r}; expected {FORMAT!r} version {VERSION}: "
                    "prepare it again with this version of ctp-ldm"
                )
            self.spec = DataSpec.from_plain(content["spec"])
            self.records = {r["name"]: CaseRecord.from_plain(r) for r in content["cases"]}
        except StoreError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StoreError(f"{manifest} is damaged ({error!r}); run ctp-ldm prepare again") from error
        self._open: dict[tuple[str, str], np.ndarray] = {}

    def array(self, case: str, kind: Kind) -> np.ndarray:
        """One array of a case, memory-mapped, slice-major."""
        if (case, kind) not in self._open:
            path = self.path / "cases" / case / f"{kind}.npy"
            try:
                self._open[case, kind] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise StoreError(f"{path} cannot be read ({error}); run ctp-ldm prepare again") from error
        return self._open[case, kind]

    def verify(self) -> list[str]:
        """Read every array and compare it with its checksum, with a progress bar; what is wrong, file by file."""
        faults = []
        for record in tqdm(self.records.values(), desc="verify", unit="case"):
            faults += damaged(self.path / "cases" / record.name, record)
        return faults

    def __getstate__(self) -> dict[str, Any]:
        # Workers map the files themselves instead of receiving copies of the arrays.
        return {**self.__dict__, "_open": {}}


def damaged(folder: Path, record: CaseRecord) -> list[str]:
    """The files of a case that are missing or not as they were written."""
    faults = []
    for kind, expected in record.checksums.items():
        path = folder / f"{kind}.npy"
        found = _checksum(path) if path.is_file() else "no file"
        if found != expected:
            faults.append(f"{path}: found {found}, expected checksum {expected}; run ctp-ldm prepare … --verify")
    return faults


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
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text())
            record = CaseRecord.from_plain(content["record"])
            good = content["origin"] == origin and not (verify and damaged(path.parent, record))
            return record if good else None
        except (ValueError, KeyError, TypeError):
            return None  # a damaged record: the case is made anew

    def write(self, name: str, prepared: PreparedCase, origin: dict[str, Any]) -> CaseRecord:
        """Write one case: all files into a hidden folder, which then gets its name."""
        partial, final = self._cases / f".{name}", self._cases / name
        partial.mkdir()
        checksums = {}
        for kind, array, dtype in (
            ("source", prepared.source, np.float16),
            ("target", prepared.target, np.float16),
            ("brain", prepared.brain, np.uint8),
            ("lesion", prepared.lesion, np.uint8),
        ):
            if array is not None:
                np.save(partial / f"{kind}.npy", array.astype(dtype), allow_pickle=False)
                checksums[kind] = _checksum(partial / f"{kind}.npy")
        record = CaseRecord(
            name=name,
            geometry=prepared.geometry,
            brain_voxels=[int(n) for n in prepared.brain.sum(axis=(1, 2))],
            lesion_voxels=None if prepared.lesion is None else [int(n) for n in prepared.lesion.sum(axis=(1, 2))],
            has_target=prepared.target is not None,
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
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, separators=(",", ":")))
    temporary.replace(path)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
