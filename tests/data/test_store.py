"""A store is opened whole or not at all, and costs little to hand to a worker."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from ctp_ldm.data import ISLES24, CTPToDiffusionMRI, prepare
from ctp_ldm.data import store as store_module
from ctp_ldm.data.store import Kind, SliceStore, StoreError, signature
from ctp_ldm.data.store_writer import StoreWriter
from ctp_ldm.scaling import Scaling

from .conftest import SETTINGS

NAME = "sub-stroke0002"


def _edit(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((store / "manifest.json").read_text())
    change(content)
    (store / "manifest.json").write_text(json.dumps(content))


def edit_record(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Of the first case, which is signed anew."""

    def signed(content: dict[str, Any]) -> None:
        record = content["cases"][0]
        change(record)
        record["signature"] = signature({k: v for k, v in record.items() if k != "signature"})

    _edit(store, signed)


@pytest.mark.parametrize("kind", ["source", "target", "brain", "lesion"])
def test_slices_are_those_of_the_file(shared_store: Path, kind: Kind) -> None:
    store = SliceStore(shared_store)
    stored = np.load(shared_store / "cases" / NAME / f"{kind}.npy")
    assert stored.shape[0] == len(store.records[NAME].brain_voxels)
    assert stored.shape[-2:] == store.spec.size
    whole = store.read(NAME, kind)
    assert whole.dtype == stored.dtype
    np.testing.assert_array_equal(whole, stored)
    np.testing.assert_array_equal(store.read(NAME, kind, range(2, 4)), stored[2:4])


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_reading_leaves_no_file_open(shared_store: Path) -> None:
    """Training dies of too many patients else: a limit of 1024 open files is usual."""
    store = SliceStore(shared_store)
    before = open_files()
    held = [store.read(name, kind) for name, record in store.records.items() for kind in record.checksums]
    assert len(held) > 20
    assert open_files() == before


def test_arrays_that_are_missing_or_cut_off_are_told_all_at_once_when_a_store_is_opened(store: Path) -> None:
    (store / "cases" / NAME / "source.npy").unlink()
    other = store / "cases" / "sub-stroke0001" / "target.npy"
    other.write_bytes(other.read_bytes()[:-200])
    with pytest.raises(StoreError, match="2 damaged file") as told:
        SliceStore(store)
    assert f"{NAME}/source.npy: no file" in str(told.value)
    assert "sub-stroke0001/target.npy: " in str(told.value)
    assert "--verify" in str(told.value)


def test_a_pickled_store_carries_no_arrays(shared_store: Path) -> None:
    store = SliceStore(shared_store)
    fresh = len(pickle.dumps(store))
    values = np.array(store.read(NAME, "source"))
    assert len(pickle.dumps(store)) < fresh + 100
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read(NAME, "source"), values)
    assert copy.spec == store.spec


def test_a_folder_that_is_no_store_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreError, match=r"is not a slice store.*ctp-ldm prepare"):
            SliceStore(path)


def test_an_unfinished_store_is_refused(store: Path) -> None:
    (store / "manifest.json").unlink()
    with pytest.raises(StoreError, match="is an unfinished store"):
        SliceStore(store)


@pytest.mark.parametrize(("key", "value"), [("version", 0), ("version", 99), ("format", "another program's")])
def test_another_version_or_format_is_refused_with_what_was_found(store: Path, key: str, value: object) -> None:
    _edit(store, lambda content: content.update({key: value}))
    with pytest.raises(StoreError, match=rf"{value!r}.*prepare it again"):
        SliceStore(store)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: c.pop("spec"), id="no-spec"),
        pytest.param(lambda c: c.pop("cases"), id="no-cases"),
        pytest.param(lambda c: c.update(cases=7), id="cases-no-list"),
        pytest.param(lambda c: c["cases"][0].pop("geometry"), id="no-geometry"),
        pytest.param(lambda c: c["cases"][0].update(extra=1), id="unknown-key"),
        pytest.param(lambda c: c["cases"][0]["geometry"].update(shape=[1, 2]), id="two-dimensional"),
        pytest.param(lambda c: c["spec"]["source"][0]["scaling"].update(kind="cubic"), id="unknown-scaling"),
        pytest.param(lambda c: c["spec"].update(size=[32]), id="half-a-size"),
        pytest.param(lambda c: c["spec"].update(spacing="wide"), id="spacing-in-words"),
    ],
)
def test_a_damaged_manifest_is_refused(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    _edit(store, change)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged.*prepare again"):
        SliceStore(store)


@pytest.mark.parametrize("content", [b"", b'{"format": "ctp-ldm sl', b"[]", b"\xff\xfe\x00"])
def test_a_manifest_that_is_no_json_object_is_refused(store: Path, content: bytes) -> None:
    (store / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        SliceStore(store)


@pytest.mark.parametrize("start", [b"no array", b"\x93NUMPY\x01\x00v\x00{'order'"])
def test_an_unreadable_array_is_refused_and_named(store: Path, start: bytes) -> None:
    path = store / "cases" / NAME / "source.npy"
    path.write_bytes(start + path.read_bytes()[len(start) :])
    with pytest.raises(StoreError, match=rf"{NAME}/source\.npy: .*--verify"):
        SliceStore(store).read(NAME, "source")


def test_pickled_objects_in_place_of_arrays_are_not_loaded(store: Path) -> None:
    path = store / "cases" / NAME / "source.npy"
    size = path.stat().st_size
    np.save(path, np.array([{"code": "1" * size}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match=r"source\.npy"):
        SliceStore(store).read(NAME, "source")


def test_an_array_of_another_case_is_noticed_when_it_is_read(store: Path) -> None:
    """Exchanged arrays have the right shape and type; one slice of them is enough to tell."""
    ours, theirs = (store / "cases" / name / "target.npy" for name in (NAME, "sub-stroke0001"))
    assert ours.stat().st_size == theirs.stat().st_size
    ours.write_bytes(theirs.read_bytes())
    opened = SliceStore(store)
    with pytest.raises(StoreError, match=rf"{NAME}/target\.npy: slices \[2\] are not as they were written"):
        opened.read(NAME, "target", range(2, 3))


@pytest.mark.parametrize("name", ["../../x", "a/b", "", ".hidden", "=1+1", "a" * 101, 7])
def test_a_name_that_leads_out_of_the_store_is_refused(store: Path, name: object) -> None:
    edit_record(store, lambda record: record.update(name=name))
    with pytest.raises(StoreError, match=r"manifest\.json is damaged.*unfit for the name of a case"):
        SliceStore(store)


def test_a_changed_number_is_noticed_when_a_store_is_opened(store: Path) -> None:
    """An affine says how large a lesion is."""
    _edit(store, lambda content: content["cases"][0]["geometry"]["affine"][2].__setitem__(2, 4.9))
    with pytest.raises(StoreError, match="is not as it was written"):
        SliceStore(store)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda r: r["brain_voxels"].pop(), id="a-slice-less"),
        pytest.param(lambda r: r["checksums"]["target"].append(0), id="a-checksum-more"),
        pytest.param(lambda r: r.update(lesion_voxels=None), id="no-lesion-voxels"),
        pytest.param(lambda r: r["checksums"].pop("brain"), id="no-brain"),
        pytest.param(lambda r: r["checksums"].update({"../x": r["checksums"]["brain"]}), id="unknown-array"),
        pytest.param(lambda r: r["geometry"].update(size=[16, 16]), id="another-grid"),
        pytest.param(lambda r: r["geometry"].update(spacing=1.0), id="another-spacing"),
    ],
)
def test_a_record_that_contradicts_itself_or_the_spec_is_refused(
    store: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edit_record(store, change)
    with pytest.raises(StoreError, match="contradicts itself or the store's spec"):
        SliceStore(store)


# --------------------------------------------------------------------------------------------------------- checksums


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _array_times(store: Path) -> dict[str, int]:
    return {str(path.relative_to(store)): path.stat().st_mtime_ns for path in store.glob("cases/*/*.npy")}


def test_a_store_as_it_was_written_has_no_fault(shared_store: Path) -> None:
    assert SliceStore(shared_store).verify() == []


@pytest.mark.parametrize("kind", ["source", "target", "brain", "lesion"])
def test_a_damaged_array_is_found_and_named(store: Path, kind: str) -> None:
    path = store / "cases" / NAME / f"{kind}.npy"
    _flip_a_bit(path)
    (fault,) = SliceStore(store).verify()
    assert fault.startswith(f"{path}: slices [")
    assert "--verify" in fault


@pytest.mark.parametrize("content", [None, "{", '{"record": {}, "origin": {}}'])
def test_a_case_whose_own_record_is_another_is_found_and_named(store: Path, content: str | None) -> None:
    path = store / "cases" / NAME / "case.json"
    path.unlink() if content is None else path.write_text(content)
    (fault,) = SliceStore(store).verify()
    assert fault.startswith(f"{path}: missing, damaged, or not of this case")


DAMAGES = [
    pytest.param(_flip_a_bit, id="flipped-bit"),
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), id="cut-off"),
    pytest.param(Path.unlink, id="gone"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_preparing_with_verification_makes_the_damaged_case_anew_and_no_other(
    shared_tree: Path, shared_store: Path, store: Path, damage: Callable[[Path], None]
) -> None:
    before = _array_times(store)
    damage(store / "cases" / NAME / "target.npy")
    task = CTPToDiffusionMRI().task
    finished, faults = prepare(shared_tree, store, task, ISLES24(), SETTINGS, workers=1, verify=True)
    assert not faults
    assert finished.verify() == []
    assert finished.records == SliceStore(shared_store).records
    now = _array_times(store)
    assert {Path(path).parent.name for path in now if now[path] != before.get(path)} == {NAME}


# ----------------------------------------------------------------------------------------------------------- writing


def test_a_second_writer_is_refused_while_one_is_at_work(store: Path) -> None:
    spec = SliceStore(store).spec
    message = f"another process is writing to {re.escape(str(store))}"
    with StoreWriter(store, spec), pytest.raises(StoreError, match=message), StoreWriter(store, spec):
        pass


def test_a_refused_writer_harms_nothing(shared_tree: Path, store: Path) -> None:
    before = sorted(store.rglob("*"))
    with FileLock(store / "store.lock"), pytest.raises(StoreError, match="another process is writing"):
        prepare(shared_tree, store, CTPToDiffusionMRI().task, ISLES24(), SETTINGS, workers=1)
    assert SliceStore(store).verify() == []
    assert sorted(store.rglob("*")) == before


def test_a_writer_that_failed_leaves_the_store_to_the_next(shared_tree: Path, store: Path) -> None:
    with pytest.raises(ZeroDivisionError), StoreWriter(store, SliceStore(store).spec):
        raise ZeroDivisionError
    prepare(shared_tree, store, CTPToDiffusionMRI().task, ISLES24(), SETTINGS, workers=1)
    assert SliceStore(store).verify() == []


# ---------------------------------------------------------------------------------------------------- half precision


def _worst_rounding(scaling: Scaling, low: float, high: float) -> float:
    values = np.linspace(low, high, 2_000_001)
    stored = scaling.encode(values).astype(np.float16)
    return float(np.abs(scaling.decode(stored.astype(np.float64)) - values).max())


def test_half_precision_costs_what_the_documentation_says() -> None:
    text = " ".join((store_module.__doc__ or "").split())
    spec = CTPToDiffusionMRI().spec
    (baseline, phase, *_), (dwi, adc) = spec.source, spec.target
    for channel, low, high, pattern in (
        (adc, 0, 3000, r"([\d.]+) × 10⁻⁶ mm²/s of ADC"),
        (dwi, 0, 4, r"([\d.]+) of relative DWI"),
        (baseline, 0, 80, r"([\d.]+) HU before contrast"),
        (phase, 4.5, 5.5, r"([\d.]+) HU at 5 HU"),
        (phase, -200, 200, r"([\d.]+) HU at 200 HU"),
    ):
        (stated,) = re.findall(pattern, text)
        assert float(f"{_worst_rounding(channel.scaling, low, high):.1g}") == float(stated), channel.name
