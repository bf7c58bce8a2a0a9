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
from ctp_ldm.data.store import SliceStore, StoreError, StoreWriter
from ctp_ldm.scaling import Scaling

from .conftest import SETTINGS

NAME = "sub-stroke0002"


def _edit(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((store / "manifest.json").read_text())
    change(content)
    (store / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize("kind", ["source", "target", "brain", "lesion"])
def test_arrays_are_mapped_slice_major_and_read_only(shared_store: Path, kind: str) -> None:
    store = SliceStore(shared_store)
    array = store.array(NAME, kind)  # type: ignore[arg-type]
    assert isinstance(array, np.memmap)
    assert array.flags.c_contiguous
    assert not array.flags.writeable
    assert array.shape[0] == len(store.records[NAME].brain_voxels)
    assert array.shape[-2:] == store.spec.size


def test_opening_needs_the_manifest_only(store: Path) -> None:
    before = SliceStore(store).records
    for path in store.glob("cases/*/*"):
        path.unlink()
    assert SliceStore(store).records == before


def test_a_pickled_store_carries_no_arrays(shared_store: Path) -> None:
    store = SliceStore(shared_store)
    fresh = len(pickle.dumps(store))
    values = np.array(store.array(NAME, "source"))
    assert len(pickle.dumps(store)) == fresh
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.array(NAME, "source"), values)
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


@pytest.mark.parametrize("content", [None, b"", b"no array", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_an_unreadable_array_is_refused_and_named(store: Path, content: bytes | None) -> None:
    path = store / "cases" / NAME / "source.npy"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=rf"{NAME}/source\.npy cannot be read"):
        SliceStore(store).array(NAME, "source")


def test_pickled_objects_in_place_of_arrays_are_not_loaded(store: Path) -> None:
    np.save(store / "cases" / NAME / "source.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="cannot be read"):
        SliceStore(store).array(NAME, "source")


# --------------------------------------------------------------------------------------------------------- checksums


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = [
    pytest.param(_flip_a_bit, id="flipped-bit"),
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), id="cut-off"),
    pytest.param(Path.unlink, id="gone"),
]
every_damage = pytest.mark.parametrize("damage", DAMAGES)


def _array_times(store: Path) -> dict[str, int]:
    return {str(path.relative_to(store)): path.stat().st_mtime_ns for path in store.glob("cases/*/*.npy")}


def test_a_store_as_it_was_written_has_no_fault(shared_store: Path) -> None:
    assert SliceStore(shared_store).verify() == []


@every_damage
@pytest.mark.parametrize("kind", ["source", "target", "brain", "lesion"])
def test_a_damaged_array_is_found_and_named(store: Path, damage: Callable[[Path], None], kind: str) -> None:
    path = store / "cases" / NAME / f"{kind}.npy"
    damage(path)
    (fault,) = SliceStore(store).verify()
    assert fault.startswith(f"{path}: found ")
    assert SliceStore(store).records[NAME].checksums[kind] in fault
    assert "--verify" in fault


@every_damage
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
