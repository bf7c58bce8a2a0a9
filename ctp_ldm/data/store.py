"""The prepared slice store: slice-major, checksummed slice by slice, written atomically.

    STORE/manifest.json            versions, data spec, and a record of each case with checksums
    STORE/cases/<name>/source.npy  (Z, Cs, H, W) float16    target.npy likewise
    STORE/cases/<name>/brain.npy   (Z, H, W) uint8          lesion.npy likewise
    STORE/cases/<name>/case.json   the case's record and what it was made from

Slices are read from their files, which are closed again: thousands of cases need no more open files than one. Every
slice that is read is compared with its checksum, so that training cannot go on with a damaged or exchanged one.

Half precision: in [−1, 1] it rounds by at most 2⁻¹² = 2.4e-4. That is 0.4 × 10⁻⁶ mm²/s of ADC, 0.0005 of relative
DWI, 0.01 HU before contrast, and of enhancement 0.002 HU at 5 HU and 0.2 HU at 200 HU: a hundredth of the noise (the
tests compute these from the scalings).
"""

import hashlib
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from tqdm import tqdm

from ctp_ldm.data.cases import is_case_name
from ctp_ldm.geometry import Geometry
from ctp_ldm.spec import DataSpec

FORMAT, VERSION = "ctp-ldm slice store", 5
MANIFEST = "manifest.json"
Kind = Literal["source", "target", "brain", "lesion"]
DTYPES: dict[Kind, type[np.generic]] = {
    "source": np.float16,
    "target": np.float16,
    "brain": np.uint8,
    "lesion": np.uint8,
}
AGAIN = "run ctp-ldm prepare with --verify, which makes damaged cases anew"


class StoreError(ValueError):
    """A folder is not a slice store that can be used here."""


@dataclass(frozen=True)
class CaseRecord:
    """What the manifest knows of a case, so that its arrays need not be opened.

    brain_voxels, lesion_voxels: voxels of each slice; lesion_voxels is None where there is no lesion mask.
    digests: role → digest of the content of the image file it was made from.
    checksums: array → CRC-32 of each slice.
    remarks: what is odd about the case, in the words of `check`.
    resampling: noise and sharpness in the file and on the grid (`resampled.Resampled`).
    """

    name: str
    geometry: Geometry
    brain_voxels: list[int]
    lesion_voxels: list[int] | None
    digests: dict[str, str]
    checksums: dict[Kind, list[int]]
    remarks: list[str]
    resampling: dict[str, Any]

    @property
    def has_target(self) -> bool:
        return "target" in self.checksums

    def complete(self, needs_lesion: bool) -> bool:
        """Whether the case can be trained and tested on."""
        return self.has_target and not (needs_lesion and self.lesion_voxels is None)

    def to_plain(self) -> dict[str, Any]:
        """Plain data for JSON, with a checksum of it all."""
        plain = {**self.__dict__, "geometry": self.geometry.to_plain()}
        return {**plain, "signature": signature(plain)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any], spec: DataSpec) -> Self:
        """Rebuild from `to_plain`.

        Raises:
            StoreError: it is not as it was written, not of this spec's grid, or its name is unfit for a folder.
        """
        content = {key: value for key, value in plain.items() if key != "signature"}
        if not is_case_name(plain["name"]):
            raise StoreError(f"{plain['name']!r} is unfit for the name of a case")
        if plain["signature"] != signature(content):
            raise StoreError(f"the record of {plain['name']} is not as it was written")
        record = cls(**{**content, "geometry": Geometry.from_plain(content["geometry"])})
        lists: list[list[Any]] = [record.brain_voxels, *record.checksums.values()]
        lists += [] if record.lesion_voxels is None else [record.lesion_voxels]
        agreeing = (
            (record.geometry.size, record.geometry.spacing) == (spec.size, spec.spacing)
            and {len(each) for each in lists} == {record.geometry.slices}
            and {"source", "brain"} <= record.checksums.keys() <= DTYPES.keys()
            and ("lesion" in record.checksums) == (record.lesion_voxels is not None)
        )
        if not agreeing:
            raise StoreError(f"the record of {record.name} contradicts itself or the store's spec")
        return record


class SliceStore:
    """A finished store, for reading. Opening it reads the manifest, and asks for the arrays' sizes.

    Raises:
        StoreError: the folder is missing, unfinished, of another version, its manifest is damaged, or arrays are
            missing or cut off.
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
        except (AttributeError, ValueError) as error:
            raise StoreError(f"{manifest} is damaged ({error!r}); run ctp-ldm prepare again") from error
        if found != (FORMAT, VERSION):
            raise StoreError(
                f"{manifest} is of {found[0]!r} version {found[1]!r}; expected {FORMAT!r} version {VERSION}: "
                "prepare it again with this version of ctp-ldm"
            )
        try:
            self.spec = DataSpec.from_plain(content["spec"])
            records = [CaseRecord.from_plain(plain, self.spec) for plain in content["cases"]]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            told = str(error) if isinstance(error, StoreError) else repr(error)
            raise StoreError(f"{manifest} is damaged ({told}); run ctp-ldm prepare again") from error
        self.records = {record.name: record for record in records}
        self._starts: dict[tuple[str, Kind], int] = {}
        self._require_arrays()

    def _require_arrays(self) -> None:
        """All of them before any work: some belong to patients whom nobody reads before the test."""
        faults = []
        for record in self.records.values():
            for kind in record.checksums:
                path = self._path(record.name, kind)
                found = path.stat().st_size if path.is_file() else 0
                expected = math.prod(_shape(kind, record, self.spec)) * np.dtype(DTYPES[kind]).itemsize
                if found < expected:
                    faults.append(f"{path}: {f'{found} of at least {expected} bytes' if found else 'no file'}")
        if faults:
            shown = faults if len(faults) <= 10 else [*faults[:9], f"… and {len(faults) - 9} more"]
            raise StoreError("\n  ".join([f"{len(faults)} damaged file(s); {AGAIN}:", *shown]))

    def _path(self, case: str, kind: Kind) -> Path:
        return self.path / "cases" / case / f"{kind}.npy"

    def read(self, case: str, kind: Kind, slices: range | None = None) -> np.ndarray:
        """Neighbouring slices of an array of a case, or all of them, as they were written.

        Args:
            case: its name.
            kind: which array.
            slices: without gaps, in order; None for all.

        Returns:
            (n, C, H, W) of images, (n, H, W) of masks.

        Raises:
            StoreError: the case has no such array, its file is missing or another, or a slice is not as it was written.
        """
        record, path = self.records[case], self._path(case, kind)
        if kind not in record.checksums:
            raise StoreError(f"{case} has no {kind} in {self.path}")
        try:
            if (case, kind) not in self._starts:
                self._starts[case, kind] = _start(path, kind, record, self.spec)
            return _read(path, kind, record, self.spec, self._starts[case, kind], slices)
        except (FileNotFoundError, ValueError, EOFError) as error:
            raise StoreError(f"{path}: {error}; {AGAIN}") from error

    def verify(self) -> list[str]:
        """Read every array and compare it with its checksums, with a progress bar; what is wrong, file by file."""
        faults = []
        for record in tqdm(self.records.values(), desc="verify", unit="case"):
            folder = self.path / "cases" / record.name
            try:
                same = json.loads((folder / "case.json").read_text())["record"] == record.to_plain()
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                same = False
            faults += [] if same else [f"{folder / 'case.json'}: missing, damaged, or not of this case; {AGAIN}"]
            faults += damaged(folder, record, self.spec)
        return faults


def damaged(folder: Path, record: CaseRecord, spec: DataSpec) -> list[str]:
    """The files of a case that are missing or not as they were written."""
    faults = []
    for kind in record.checksums:
        path = folder / f"{kind}.npy"
        try:
            _read(path, kind, record, spec, _start(path, kind, record, spec))
        except (FileNotFoundError, ValueError, EOFError) as error:
            faults.append(f"{path}: {error}; {AGAIN}")
    return faults


def _shape(kind: Kind, record: CaseRecord, spec: DataSpec) -> tuple[int, ...]:
    """(Z, C, H, W) of images, (Z, H, W) of masks."""
    channels = {"source": (len(spec.source),), "target": (len(spec.target),)}.get(kind, ())
    return (record.geometry.slices, *channels, *spec.size)


def _start(path: Path, kind: Kind, record: CaseRecord, spec: DataSpec) -> int:
    """Where the values of an array's file begin, in bytes.

    Raises:
        FileNotFoundError, ValueError, EOFError: it is missing, damaged, or another array.
    """
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    expected = (_shape(kind, record, spec), np.dtype(DTYPES[kind]))
    if (mapped.shape, mapped.dtype) != expected or not mapped.flags.c_contiguous:
        raise ValueError(f"found {mapped.dtype} {mapped.shape}, expected {expected[1]} {expected[0]}")
    return int(mapped.offset)


def _read(
    path: Path, kind: Kind, record: CaseRecord, spec: DataSpec, start: int, slices: range | None = None
) -> np.ndarray:
    """Slices of an array's file, compared with their checksums.

    Raises:
        FileNotFoundError, ValueError: it is missing, cut off, or not as it was written.
    """
    total, *shape = _shape(kind, record, spec)
    wanted = range(total) if slices is None else slices
    each, dtype = math.prod(shape), np.dtype(DTYPES[kind])
    offset = start + wanted.start * each * dtype.itemsize
    values = np.fromfile(path, dtype, len(wanted) * each, offset=offset).reshape(len(wanted), *shape)
    wrong = [z for z, slice_ in zip(wanted, values, strict=True) if checksum(slice_) != record.checksums[kind][z]]
    if wrong:
        raise ValueError(f"slices {wrong} are not as they were written")
    return values


def plain_json(content: dict[str, Any]) -> str:
    """One text for one content: what checksums are made of."""
    return json.dumps(content, separators=(",", ":"))


def checksum(slice_: np.ndarray) -> int:
    """CRC-32 of a slice without gaps: hundredths of a millisecond, so that all that is read can be compared."""
    return zlib.crc32(slice_)  # type: ignore[arg-type]


def signature(record: dict[str, Any]) -> str:
    """BLAKE2 of a case's plain record."""
    return hashlib.blake2b(plain_json(record).encode(), digest_size=8).hexdigest()
