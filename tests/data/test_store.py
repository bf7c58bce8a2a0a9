"""A store is opened whole or not at all, and costs little to hand to a worker."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctp_ldm.data.store import SliceStore, StoreError

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
