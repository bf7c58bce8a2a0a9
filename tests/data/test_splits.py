"""Patients are divided once, completely, and always the same way."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctp_ldm.data.splits import KFold, ListedSplit, RandomSplit, Split, SplitError

NAMES = [f"sub-{i:03d}" for i in range(20)]
PARTS = ["train", "val", "test"]
splits = pytest.mark.parametrize("split", [RandomSplit(), RandomSplit(0.0, 0.3), KFold(), KFold(3, 2)], ids=str)


@splits
@given(count=st.integers(3, 200))
def test_parts_are_disjoint_and_complete(split: Split, count: int) -> None:
    names = [f"p{i}" for i in range(count)]
    parts = split.assign(names)
    assert sorted(parts) == sorted(PARTS)
    assert sorted(name for part in parts.values() for name in part) == sorted(names)


@splits
@given(shuffled=st.permutations(NAMES))
def test_parts_do_not_depend_on_the_order_of_names(split: Split, shuffled: list[str]) -> None:
    assert split.assign(shuffled) == split.assign(NAMES)


@pytest.mark.parametrize("kind", [RandomSplit, KFold])
def test_the_seed_decides(kind: type[RandomSplit] | type[KFold]) -> None:
    assert kind(seed=1).assign(NAMES) == kind(seed=1).assign(NAMES)
    assert kind(seed=1).assign(NAMES) != kind(seed=2).assign(NAMES)


@given(count=st.integers(3, 300), val=st.floats(0, 0.45), test=st.floats(0, 0.45))
def test_random_shares_are_met_within_one_patient(count: int, val: float, test: float) -> None:
    parts = RandomSplit(val, test).assign([f"p{i}" for i in range(count)])
    for part, share in (("val", val), ("test", test)):
        assert abs(len(parts[part]) - share * count) <= 1
        assert (len(parts[part]) >= 1) == (share > 0)


@pytest.mark.parametrize("folds", [3, 5, 20])
@pytest.mark.parametrize("part", ["test", "val"])
def test_over_all_folds_everyone_is_tested_and_validated_once(folds: int, part: str) -> None:
    everyone = [name for fold in range(folds) for name in KFold(folds, fold).assign(NAMES)[part]]
    assert sorted(everyone) == NAMES


def test_folds_differ_by_one_patient_at_most() -> None:
    sizes = {len(KFold(6, fold).assign(NAMES)["test"]) for fold in range(6)}
    assert sizes == {3, 4}


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (-0.1, 0.2), (0.1, 1.0), (float("nan"), 0.1)])
def test_shares_that_leave_no_training_are_refused(val: float, test: float) -> None:
    with pytest.raises(SplitError, match=r"sum below 1"):
        RandomSplit(val, test)


@pytest.mark.parametrize(("folds", "fold"), [(2, 0), (5, 5), (5, -1)])
def test_folds_that_are_not_there_are_refused(folds: int, fold: int) -> None:
    with pytest.raises(SplitError, match=f"folds={folds}, fold={fold}"):
        KFold(folds, fold)


def _listed(path: Path, **parts: list[str]) -> ListedSplit:
    path.write_text(json.dumps(parts))
    return ListedSplit(path)


def test_a_listed_split_is_taken_as_it_is_listed(tmp_path: Path) -> None:
    parts = {"train": NAMES[3:9], "val": NAMES[1:3], "test": [NAMES[0]]}
    assert _listed(tmp_path / "s.json", **parts).assign(NAMES) == parts


def test_a_listed_split_names_unknown_and_repeated_patients(tmp_path: Path) -> None:
    split = _listed(tmp_path / "s.json", train=[NAMES[1], "who"], val=[NAMES[1]], test=["what"])
    with pytest.raises(SplitError, match=rf"not in the store: \['what', 'who'\]; .* once: \['{NAMES[1]}'\]"):
        split.assign(NAMES)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"train": [], "val": []}', '{"train": 1, "val": 2, "test": 3}'])
def test_an_unusable_list_is_refused_and_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    with pytest.raises(SplitError, match=r"s\.json: expected a JSON object"):
        ListedSplit(tmp_path / "s.json").assign(NAMES)
