"""The prepared slice store: memory-mapped, slice-major, written atomically.

    STORE/manifest.json            format version, data spec, and a record of each case
    STORE/cases/<name>/source.npy  (Z, Cs, H, W) float16    target.npy likewise
    STORE/cases/<name>/brain.npy   (Z, H, W) uint8          lesion.npy likewise
    STORE/cases/<name>/case.json   the case's record and what it was made from

Half precision: in [−1, 1] it rounds by at most 2⁻¹² = 2.4e-4, that is 0.4 × 10⁻⁶ mm²/s of ADC and 0.0005 of relative
DWI, a hundredth of the noise.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from ctp_ldm.data.preparation import PreparedCase
from ctp_ldm.geometry import Geometry
from ctp_ldm.spec import DataSpec

FORMAT, VERSION = "ctp-ldm slice store", 1
MANIFEST = "manifest.json"
Kind = Literal["source", "target", "brain", "lesion"]


class StoreError(ValueError):
    """A folder is not a slice store that can be used here."""


@dataclass(frozen=True)
class CaseRecord:
    """What the manifest knows of a case, so that its arrays need not be opened.

    brain_voxels, lesion_voxels: voxels of each slice; lesion_voxels is None where there is no lesion mask.
    """

    name: str
    geometry: Geometry
    brain_voxels: list[int]
    lesion_voxels: list[int] | None
    has_target: bool

    def complete(self, needs_lesion: bool) -> bool:
        """Whether the case can be trained and tested on."""
        return self.has_target and not (needs_lesion and self.lesion_voxels is None)

    def to_plain(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "geometry": self.geometry.to_plain(),
            "brain_voxels": self.brain_voxels,
            "lesion_voxels": self.lesion_voxels,
            "has_target": self.has_target,
        }

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

    def __getstate__(self) -> dict[str, Any]:
        # Workers map the files themselves instead of receiving copies of the arrays.
        return {**self.__dict__, "_open": {}}


class StoreWriter:
    """Writes cases one by one; nothing that is half-written can be taken for whole.

    Args:
        path: the store's folder; made when missing.
        spec: what the numbers mean.

    Raises:
        StoreError: the folder holds something else, or a store of another spec.
    """

    def __init__(self, path: Path, spec: DataSpec) -> None:
        self.path, self.spec = Path(path), spec
        self._cases = self.path / "cases"
        header = self.path / "store.json"
        mine = {"format": FORMAT, "version": VERSION, "spec": spec.to_plain()}
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{path} is a file; expected a folder for the store")
        if self.path.is_dir() and any(self.path.iterdir()):
            if not header.is_file():
                raise StoreError(f"{path} is not empty and not a slice store; choose an empty or a new folder")
            if json.loads(header.read_text()) != mine:
                raise StoreError(
                    f"{path} was prepared with other settings (task, spacing, size or version); choose another folder "
                    "or remove it"
                )
        self._cases.mkdir(parents=True, exist_ok=True)
        _write_json(header, mine)
        # Cases may be written anew from here on: until `finish` an earlier manifest would describe other arrays.
        (self.path / MANIFEST).unlink(missing_ok=True)
        for leftover in self._cases.glob(".*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)

    def finished(self, name: str, origin: dict[str, Any]) -> CaseRecord | None:
        """The record of a case that is already there, made from the same files with the same settings."""
        path = self._cases / name / "case.json"
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text())
            return CaseRecord.from_plain(content["record"]) if content["origin"] == origin else None
        except (ValueError, KeyError, TypeError):
            return None  # a damaged record: the case is made anew

    def write(self, name: str, prepared: PreparedCase, origin: dict[str, Any]) -> CaseRecord:
        """Write one case: all files into a hidden folder, which then gets its name."""
        record = CaseRecord(
            name=name,
            geometry=prepared.geometry,
            brain_voxels=[int(n) for n in prepared.brain.sum(axis=(1, 2))],
            lesion_voxels=None if prepared.lesion is None else [int(n) for n in prepared.lesion.sum(axis=(1, 2))],
            has_target=prepared.target is not None,
        )
        partial, final = self._cases / f".{name}", self._cases / name
        partial.mkdir()
        for kind, array, dtype in (
            ("source", prepared.source, np.float16),
            ("target", prepared.target, np.float16),
            ("brain", prepared.brain, np.uint8),
            ("lesion", prepared.lesion, np.uint8),
        ):
            if array is not None:
                np.save(partial / f"{kind}.npy", array.astype(dtype), allow_pickle=False)
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
                "spec": self.spec.to_plain(),
                "cases": [record.to_plain() for record in records],
            },
        )
        return SliceStore(self.path)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=1))
    temporary.replace(path)
