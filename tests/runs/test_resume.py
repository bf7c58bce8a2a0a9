"""Which checkpoint a run goes on from, and what it says of changed settings."""

import os
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from ctp_ldm.runs import AtomicCheckpointIO, CheckpointError
from ctp_ldm.runs.resume import changed_settings, newest_whole

NAMES = ("last.ckpt", "previous.ckpt", "best.ckpt")


@pytest.fixture
def checkpoints(tmp_path: Path) -> dict[str, Path]:
    """The three of a run; the best one was written last."""
    folder = tmp_path / "checkpoints"
    for number, name in enumerate(NAMES):
        content = {"ctp_ldm": {}, "state_dict": {"weight": torch.full((1000,), float(number))}}
        AtomicCheckpointIO().save_checkpoint(content, folder / name)
        os.utime(folder / name, (1000 + number, 1000 + number))
    return {name: folder / name for name in NAMES}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    content[place] ^= 255
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def test_an_empty_folder_starts_anew(tmp_path: Path) -> None:
    assert newest_whole(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".last.ckpt.partial").write_bytes(b"half")
    assert newest_whole(tmp_path) is None


@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize("damage", [truncate, flip, empty, Path.unlink])
def test_the_first_whole_one_is_taken_and_broken_ones_are_named(
    damage: object, broken: int, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    for name in NAMES[:broken]:
        damage(checkpoints[name])  # type: ignore[operator]
    expected = checkpoints[NAMES[broken]]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert newest_whole(tmp_path) == expected
    named = [] if damage is Path.unlink else NAMES[:broken]
    assert len(said) == len(named)
    for warning, name in zip(said, named, strict=True):
        assert f"checkpoint {checkpoints[name]} is damaged" in str(warning.message)
        assert f"going on from {expected}" in str(warning.message)


def test_a_whole_file_of_something_else_is_passed_over(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, checkpoints["last.ckpt"])
    with pytest.warns(UserWarning, match=r"last\.ckpt is not a checkpoint of ctp-ldm"):
        assert newest_whole(tmp_path) == checkpoints["previous.ckpt"]


def test_nothing_but_broken_ones_is_an_error_that_names_them(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    for path in checkpoints.values():
        flip(path)
    with pytest.raises(CheckpointError, match="no checkpoint of this run is whole; move them away") as failure:
        newest_whole(tmp_path)
    assert all(str(path) in str(failure.value) for path in checkpoints.values())


# ------------------------------------------------------------------------------------------------------- new settings


CONFIG = {
    "seed_everything": 0,
    "ema": 0.99,
    "init_from": "runs/a/best.ckpt",
    "lr_per_sample": None,
    "data": {"class_path": "D", "init_args": {"batch_size": 4, "size": [32, 40]}},
    "model": {
        "init_args": {
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
            "lr_scheduler": None,
            "terms": [{"class_path": "T", "init_args": {"weight": 0.1}}],
        }
    },
    "trainer": {"default_root_dir": "runs/a", "max_steps": 4},
}
SCHEDULE = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 5}}


def changes(**new: object) -> list[str]:
    """What is said after values at `a__b__c` have become others."""
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    for place, value in new.items():
        *path, last = place.split("__")
        inner = config
        for key in path:
            inner = inner[key]
        inner[last] = value
    return changed_settings(yaml.safe_dump(CONFIG), yaml.safe_dump(config))


def test_the_same_settings_are_not_worth_a_word() -> None:
    assert changes() == []


@pytest.mark.parametrize(
    ("new", "line"),
    [
        ({"data__init_args__batch_size": 8}, "data.init_args.batch_size: 4 → 8 (the new one holds)"),
        ({"data__init_args__size": [64, 80]}, "data.init_args.size: [32, 40] → [64, 80] (the new one holds)"),
        ({"ema": None}, "ema: 0.99 → None (the new one holds)"),
        ({"trainer__precision": "bf16-mixed"}, "trainer.precision: None → bf16-mixed (the new one holds)"),
        ({"trainer__max_steps": 10}, "trainer.max_steps: 4 → 10 (the new one holds)"),
        ({"lr_per_sample": 1e-5}, "lr_per_sample: None → 1e-05 (the checkpoint's goes on)"),
        (
            {"model__init_args__optimizer__init_args__lr": 0.1},
            "model.init_args.optimizer.init_args.lr: 0.001 → 0.1 (the checkpoint's goes on)",
        ),
        (
            {"model__init_args__optimizer__init_args__betas": [0.5, 0.9]},
            "model.init_args.optimizer.init_args.betas: None → [0.5, 0.9] (the checkpoint's goes on)",
        ),
    ],
)
def test_each_change_is_told_with_what_holds(new: dict[str, object], line: str) -> None:
    assert changes(**new) == [line]


def test_a_schedule_that_was_not_there_before_does_not_come_in() -> None:
    lines = changes(model__init_args__lr_scheduler=SCHEDULE)
    assert lines
    assert all(line.endswith("(the checkpoint's goes on)") for line in lines)


def test_several_changes_are_told_in_order() -> None:
    lines = changes(trainer__max_steps=8, data__init_args__batch_size=2)
    assert [line.split(":")[0] for line in lines] == ["data.init_args.batch_size", "trainer.max_steps"]


def test_a_key_that_is_gone_is_told() -> None:
    (line,) = changed_settings("a: {b: 1, c: 2}", "a: {c: 2}")
    assert line.startswith("a.b: 1 → None")


@pytest.mark.parametrize("key", ["trainer__default_root_dir", "init_from", "ckpt_path"])
def test_where_things_lie_is_not_a_setting(key: str) -> None:
    assert changes(**{key: "elsewhere"}) == []


def test_long_values_are_cut() -> None:
    (line,) = changes(data__init_args__store="T" * 200)
    assert len(line) < 200
    assert "…" in line


def test_a_changed_term_of_a_list_is_shown_by_itself() -> None:
    before = "model: {init_args: {terms: [{class_path: A, init_args: {weight: 0.3}}, {class_path: B}]}}"
    (line,) = changed_settings(before, before.replace("0.3", "0.5"))
    assert line == "model.init_args.terms.0.init_args.weight: 0.3 → 0.5 (the new one holds)"
