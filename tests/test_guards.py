"""What keeps a run from being lost, seen from the command line: stops, dry runs, checkpoints, changed settings."""

import errno
import json
import re
import shutil
import warnings
from collections import namedtuple
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from running import Command, options
from torch import Tensor

from ctp_ldm.callbacks import NonFiniteLoss, last
from ctp_ldm.cli import main
from ctp_ldm.losses import PixelTerm
from ctp_ldm.runs import AtomicCheckpointIO, CheckpointError, hold
from ctp_ldm.runs.folder import RunFolderError
from ctp_ldm.runs.memory import OutOfMemory
from ctp_ldm.sample import Sample

ROOT = Path("runs/run")
Fit = Callable[..., None]


@pytest.fixture
def arguments(store: Path, tmp_path: Path, bases: dict[str, Path]) -> Callable[..., list[str]]:
    """Of any stage, in runs/run: six steps, validation after each third."""

    def whole(stage: str = "autoencoder", *more: str) -> list[str]:
        base = {"autoencoder": "null", "diffusion": bases["autoencoder"], "posttrain": bases["diffusion"]}[stage]
        return [
            *options(f"demo/{stage}.yaml", store, tmp_path),
            f"--init_from={base}",
            f"--trainer.default_root_dir={ROOT}",
            "--trainer.max_steps=6",
            "--trainer.val_check_interval=3",
            "--trainer.num_sanity_val_steps=0",
            "--trainer.limit_val_batches=1",
            *more,
        ]

    return whole


@pytest.fixture
def fit(command: Command, arguments: Callable[..., list[str]]) -> Fit:
    """Trains the autoencoder, without pictures, which would take most of the time."""
    best = "{monitor: val/balanced_mae, filename: best, enable_version_counter: false}"
    callbacks = f"[{{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {best}}}]"
    return lambda *more: command("fit", *arguments("autoencoder", f"--trainer.callbacks={callbacks}", *more))


def content(name: str = "last", root: Path = ROOT) -> dict[str, Any]:
    return dict(torch.load(root / "checkpoints" / f"{name}.ckpt", weights_only=True))


def assert_same_state(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Weights, averages and the optimiser's moments, bit by bit."""
    assert found["global_step"] == expected["global_step"]
    for key, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][key], value), key
    for key, value in expected["ema"]["weights"].items():
        assert torch.equal(found["ema"]["weights"][key], value), key
    moments, again = (c["optimizer_states"][0]["state"] for c in (expected, found))
    assert moments.keys() == again.keys()
    for key, value in moments.items():
        assert torch.equal(again[key]["exp_avg"], value["exp_avg"]), key


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def said(run: Callable[[], None]) -> list[str]:
    """Warnings of a run."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in found]


def damage(path: Path) -> None:
    """One bit of a weight. Bytes between the records of the file would be of no consequence."""
    weights = max(torch.load(path, weights_only=True)["state_dict"].values(), key=torch.numel).numpy().tobytes()
    whole = bytearray(path.read_bytes())
    whole[whole.index(weights) + 100] ^= 1
    path.write_bytes(whole)


# ------------------------------------------------------------------------------------------- loss that is no number


class Steep(torch.autograd.Function):
    """Zero, with an infinite slope."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return value * 0

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * torch.inf


def nan(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**terms, "spoilt": next(iter(terms.values())) * torch.nan}


def infinite(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**terms, "spoilt": next(iter(terms.values())) * torch.inf}


def steep(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**terms, "spoilt": Steep.apply(next(iter(terms.values())))}


def too_big(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    torch.empty(10**15)
    return terms


class Spoil(L.Callback):
    """Does something to the terms of one batch, counted from 0, and notes the slices of all batches."""

    shown: ClassVar[dict[int, str]] = {}

    def __init__(self, how: str, batch: int) -> None:
        self.change, self.batch = globals()[how], batch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss = pl_module.loss

        def spoilt(batch: Sample) -> dict[str, Tensor]:
            number = trainer.fit_loop.epoch_loop.total_batch_idx
            slices = zip(batch["case"], batch["slice_index"].tolist(), strict=True)
            self.shown[number] = ", ".join(f"{case} slice {index}" for case, index in slices)
            terms = loss(batch)  # type: ignore[operator]
            return self.change(terms) if number == self.batch else terms

        pl_module.loss = spoilt  # type: ignore[assignment]


def spoil(how: str, batch: int) -> list[str]:
    name = "--trainer.callbacks"
    return [f"{name}+=test_guards.Spoil", f"{name}.how={how}", f"{name}.batch={batch}"]


@pytest.mark.parametrize(
    ("how", "accumulated", "batch", "step"),
    [("nan", 1, 4, 5), ("steep", 1, 4, 5), ("infinite", 2, 8, 5), ("steep", 2, 7, 4)],
)
def test_a_loss_or_gradient_that_is_no_number_stops_at_the_state_of_before(
    how: str, accumulated: int, batch: int, step: int, fit: Fit
) -> None:
    """What is on the disk is bit by bit what the steps before give, and going on finds the same fault.

    An epoch has nine batches: of those gathered in twos the last stands alone.
    """
    more = [f"--trainer.accumulate_grad_batches={accumulated}", f"--trainer.val_check_interval={3 * accumulated}"]
    messages = []
    for _ in range(2):
        with pytest.raises(NonFiniteLoss) as failure:
            fit(*more, *spoil(how, batch))
        messages.append(str(failure.value))
    assert messages[0] == messages[1]
    assert f"training stopped before step {step}:" in messages[0]
    assert ("gradient is not finite" if how == "steep" else "loss is not finite") in messages[0]
    assert Spoil.shown[batch] in messages[0]
    # Which batch an infinite gradient came from cannot be told.
    assert (Spoil.shown[batch - 1] in messages[0]) == (how == "steep" and accumulated == 2)
    assert "terms of the last batch: " in messages[0]
    assert f"the state before this step: {ROOT}/checkpoints/last.ckpt" in messages[0]
    stopped = content()
    assert stopped["global_step"] == step - 1
    assert all(value.isfinite().all() for value in stopped["state_dict"].values())
    straight = "--trainer.default_root_dir=runs/straight"
    fit(*more, straight, f"--trainer.max_steps={step - 1}")
    assert_same_state(stopped, content(root=Path("runs/straight")))
    fit(*more)
    fit(*more, straight)
    assert_same_state(content(), content(root=Path("runs/straight")))


def test_the_first_of_two_accumulated_batches_is_the_one_named(fit: Fit) -> None:
    with pytest.raises(NonFiniteLoss) as failure:
        fit("--trainer.accumulate_grad_batches=2", *spoil("nan", 4))
    assert Spoil.shown[4] in str(failure.value)
    assert Spoil.shown[5] not in str(failure.value)
    assert content()["global_step"] == 2


def test_the_first_step_has_no_state_to_go_on_from(fit: Fit) -> None:
    with pytest.raises(NonFiniteLoss, match="before step 1:") as failure:
        fit(*spoil("nan", 0))
    assert "the state before" not in str(failure.value)
    assert not (ROOT / "checkpoints" / "last.ckpt").exists()


class BadSlice(PixelTerm):
    """NaN wherever one slice is in the batch."""

    def __init__(self, index: int) -> None:
        super().__init__(1.0, "bad")
        self.index = index

    def forward(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
        found = bool((sample["slice_index"] == self.index).any())
        return decoded.mean() * (torch.nan if found else 1.0)


def test_a_term_of_ones_own_that_fails_on_a_slice_is_told_with_it(
    command: Command, arguments: Callable[..., list[str]]
) -> None:
    term = "[{class_path: test_guards.BadSlice, init_args: {index: 3}}]"
    with pytest.raises(NonFiniteLoss, match=r"sub-stroke\d+ slice 3\b") as failure:
        command("fit", *arguments("posttrain", f"--model.terms={term}"))
    assert re.search(r"terms of the last batch: latent [\d.e-]+, bad nan", str(failure.value))
    assert str(failure.value).count("sub-stroke") == 4


# ------------------------------------------------------------------------------------------------------ memory, disk


def test_out_of_memory_in_a_loss_is_told_in_settings(fit: Fit) -> None:
    with pytest.raises(OutOfMemory) as failure:
        fit(*spoil("too_big", 1))
    assert "data.batch_size: 2 (now 4) with trainer.accumulate_grad_batches: 2 (now 1)" in str(failure.value)
    assert "trainer.precision: bf16-mixed (now 32-true)" in str(failure.value)


def test_a_disk_that_fills_up_in_training_costs_no_more_than_the_last_steps(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, steps = torch.save, []

    def full_at_the_end(checkpoint: dict[str, Any], path: Path) -> None:
        steps.append(checkpoint["global_step"])
        if steps[-1] < 6:
            return save(checkpoint, path)
        Path(path).write_bytes(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_at_the_end)
        with pytest.raises(CheckpointError, match="No space left on device") as failure:
            fit()
    assert "Make space on that disk and give the same command again" in str(failure.value)
    assert 6 in steps
    found = {p.name for p in (ROOT / "checkpoints").iterdir()}
    assert found <= {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert {content(name.removesuffix(".ckpt"))["global_step"] for name in found} == {3}
    fit()
    assert content()["global_step"] == 6


def test_a_disk_too_small_for_the_checkpoints_is_told_before_training(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 900, 100))
    with pytest.raises(RunFolderError, match=r"has 1e-07 GB free; expected .* for checkpoints"):
        fit()
    assert not (ROOT / "fit.yaml").exists()
    fit("--trainer.fast_dev_run=true")  # which writes none


def test_all_faults_are_told_at_once(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 900, 100))
    with pytest.raises(ValueError, match=r"nowhere\.ckpt is missing") as told:
        fit("--init_from=nowhere.ckpt", "--trainer.val_check_interval=9")
    assert "val_check_interval is 9 batches" in str(told.value)
    assert "1e-07 GB free" in str(told.value)


def test_a_folder_in_which_another_run_trains_is_left_alone(fit: Fit) -> None:
    fit()
    with hold(ROOT):
        before = bytes_in(ROOT)
        with pytest.raises(RunFolderError, match=f"another run is training in {ROOT}"):
            fit("--trainer.max_steps=9")
        assert bytes_in(ROOT) == before
    fit("--trainer.max_steps=9")
    assert content()["global_step"] == 9


def test_a_run_without_a_validation_is_refused(fit: Fit) -> None:
    with pytest.raises(ValueError, match=r"val_check_interval is 7 batches, but trainer\.max_steps 6 are only 6"):
        fit("--trainer.val_check_interval=7")
    assert not (ROOT / "fit.yaml").exists()


def test_refusals_are_one_line_and_no_traceback(arguments: Callable[..., list[str]]) -> None:
    with pytest.raises(SystemExit, match=r"^ctp-ldm: error: trainer.val_check_interval is 7 batches"):
        main(["fit", *arguments("autoencoder", "--trainer.val_check_interval=7")])


# ---------------------------------------------------------------------------------------------------------- dry runs


@pytest.mark.parametrize(
    ("batches", "stage"), [("true", "autoencoder"), ("2", "autoencoder"), ("true", "diffusion"), ("true", "posttrain")]
)
def test_a_dry_run_leaves_nothing(
    batches: str, stage: str, command: Command, arguments: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    command("fit", *arguments(stage, f"--trainer.fast_dev_run={batches}"))
    assert bytes_in(Path("runs")) == {}
    assert "dry run: a checkpoint was written and read" in caplog.text


def test_a_dry_run_in_the_folder_of_a_finished_run_neither_resumes_nor_changes_it(
    command: Command, arguments: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    command("fit", *arguments())
    before = bytes_in(ROOT)
    assert {"fit.yaml", "checkpoints/last.ckpt", "pictures/val-0000006.png"} <= before.keys()
    caplog.set_level("INFO")
    command("fit", *arguments("autoencoder", "--trainer.fast_dev_run=true"))
    assert "resuming" not in caplog.text
    assert "dry run: " in caplog.text
    for subcommand in ("validate", "test", "predict"):
        command(subcommand, *arguments("autoencoder", "--trainer.fast_dev_run=true"))
    assert bytes_in(ROOT) == before


def test_a_dry_prediction_of_a_whole_patient_writes_nothing_either(
    command: Command, arguments: Callable[..., list[str]]
) -> None:
    command("fit", *arguments())
    before = bytes_in(ROOT)
    command("predict", *arguments("autoencoder", "--trainer.fast_dev_run=true", "--data.batch_size=64"))
    assert bytes_in(ROOT).keys() == before.keys()


def test_a_dry_run_tells_of_a_loss_that_is_no_number(fit: Fit) -> None:
    with pytest.raises(NonFiniteLoss, match="before step 2:") as failure:
        fit("--trainer.fast_dev_run=2", *spoil("nan", 1))
    assert "the state before" not in str(failure.value)
    assert bytes_in(Path("runs")) == {}


# --------------------------------------------------------------------------------------------------------- going on


def test_a_broken_checkpoint_is_passed_over(fit: Fit) -> None:
    fit()
    straight = content()
    damage(ROOT / "checkpoints" / "last.ckpt")
    found = said(fit)
    (warning,) = [text for text in found if "is damaged" in text]
    assert f"checkpoint {ROOT}/checkpoints/last.ckpt is damaged" in warning
    assert f"going on from {ROOT}/checkpoints/previous.ckpt" in warning
    assert_same_state(content(), straight)


def test_nothing_but_broken_checkpoints_is_refused(fit: Fit) -> None:
    fit()
    for path in (ROOT / "checkpoints").glob("*.ckpt"):
        damage(path)
    with pytest.raises(CheckpointError, match="no checkpoint of this run is whole"):
        fit()


def rate(checkpoint: dict[str, Any]) -> float:
    return float(checkpoint["optimizer_states"][0]["param_groups"][0]["lr"])


def test_changed_settings_are_told_with_what_holds(fit: Fit) -> None:
    fit("--model.optimizer.lr=0.004")
    more = ["--model.optimizer.lr=0.1", "--data.batch_size=2", "--trainer.max_steps=9"]
    (warning,) = [text for text in said(lambda: fit(*more)) if "settings differ" in text]
    assert "model.init_args.optimizer.init_args.lr: 0.004 → 0.1 (the checkpoint's goes on)" in warning
    assert "data.init_args.batch_size: 4 → 2 (the new one holds)" in warning
    assert "trainer.max_steps: 6 → 9 (the new one holds)" in warning
    assert len(warning.splitlines()) == 1 + 3 + 1
    assert f"--init_from {ROOT}/checkpoints/last.ckpt and another default_root_dir" in warning
    assert rate(content()) == 0.004
    assert content()["global_step"] == 9


def test_unchanged_settings_are_not_worth_a_word(fit: Fit) -> None:
    with pytest.raises(NonFiniteLoss):
        fit(*spoil("nan", 4))
    assert not [text for text in said(lambda: fit(*spoil("nan", 99))) if "settings differ" in text and "terms" in text]
    assert content()["global_step"] == 6
    assert not [text for text in said(lambda: fit(*spoil("nan", 99))) if "settings differ" in text]


class Started(L.Callback):
    """Keeps the weights and rates that training starts with."""

    weights: ClassVar[dict[str, Tensor]] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        Started.weights = {name: value.detach().clone() for name, value in pl_module.named_parameters()}


STARTED = "--trainer.callbacks+=test_guards.Started"


def test_the_average_is_in_checkpoints_where_asked_for(fit: Fit) -> None:
    fit("--ema", "0.9")
    assert content()["ema"]["updates"] == 6
    fit("--ema", "null", "--trainer.default_root_dir=runs/plain")
    plain = content(root=Path("runs/plain"))
    assert "ema" not in plain
    # Training is the same with and without; only what validation and the next stage see differs.
    for name, value in content()["ema"]["weights"].items():
        assert torch.equal(plain["state_dict"][name], value), name
        assert not torch.equal(content()["state_dict"][name], value), name


def test_frozen_weights_are_stored_once(command: Command, arguments: Callable[..., list[str]]) -> None:
    command("fit", *arguments("diffusion"))
    checkpoint = content()
    names = checkpoint["ema"]["weights"].keys()
    assert names
    assert all(name.startswith(("denoiser.", "condition.")) for name in names)
    assert any(name.startswith("autoencoder.") for name in checkpoint["state_dict"])


def test_a_run_that_stops_averaging_goes_on_from_the_current_weights(fit: Fit) -> None:
    fit("--ema=0.9")
    before = content()
    found = said(lambda: fit("--ema=null", "--trainer.max_steps=9", STARTED))
    assert "ema: 0.9 → None (the new one holds)" in "".join(found)
    for name, value in before["ema"]["weights"].items():
        assert torch.equal(Started.weights[name], value), name
        assert not torch.equal(before["state_dict"][name], value), name
    assert "ema" not in content()
    assert content()["global_step"] == 9


def test_a_run_that_starts_averaging_does_so_from_its_weights(fit: Fit) -> None:
    fit("--ema=null")
    before = content()
    fit("--ema=0.9", "--trainer.max_steps=9", STARTED)
    for name, value in Started.weights.items():
        assert torch.equal(before["state_dict"][name], value), name
    assert content()["ema"]["updates"] == 3
    for name, value in content()["ema"]["weights"].items():
        assert not torch.equal(content()["state_dict"][name], value), name


def test_the_rate_follows_the_samples_of_a_step(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fit("--lr_per_sample=1e-5", "--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=6")
    assert rate(content()) == pytest.approx(1e-5 * 4 * 2)
    assert "learning rate: 8e-05 = lr_per_sample 1e-05 × samples of a step" in caplog.text
    assert "samples per step: 8 (data.batch_size 4 × 2 accumulated × 1 processes)" in caplog.text
    assert json.loads((ROOT / "fit.json").read_text())["samples per step"] == 8


# ------------------------------------------------------------------------------------------- when checkpoints are made


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps at which last.ckpt was written."""
    save, steps = AtomicCheckpointIO.save_checkpoint, []

    def note(self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if Path(path).name == "last.ckpt":
            steps.append(checkpoint["global_step"])
        save(self, checkpoint, path)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", note)
    return steps


def test_validations_leave_checkpoints_and_the_one_before(fit: Fit, saved: list[int]) -> None:
    fit()
    assert saved == [3, 6]
    assert content("previous")["global_step"] == 3


@pytest.mark.parametrize(("steps", "expected"), [(1, {1, 2, 3, 4, 5, 6}), (2, {2, 3, 4, 6}), (4, {3, 4, 6})])
def test_checkpoints_by_steps_come_between_validations(
    steps: int, expected: set[int], fit: Fit, saved: list[int]
) -> None:
    fit(f"--checkpoint.every_n_steps={steps}")
    assert set(saved) == expected


def test_steps_are_the_optimisers(fit: Fit, saved: list[int]) -> None:
    fit("--trainer.accumulate_grad_batches=2", "--checkpoint.every_n_steps=2", "--trainer.val_check_interval=12")
    assert saved == [2, 4, 6]


def test_checkpoints_by_time_count_from_the_one_before(
    fit: Fit, saved: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock on which a minute passes each time it is read, which is once in a step and once for a checkpoint."""
    minutes = count()
    monkeypatch.setattr(last, "time", SimpleNamespace(monotonic=lambda: 60.0 * next(minutes)))
    fit("--checkpoint.every_n_minutes=2.5", "--trainer.max_steps=12", "--trainer.val_check_interval=12")
    assert saved == [3, 6, 9, 12]


def test_no_rule_by_time_is_no_checkpoint_by_time(fit: Fit, saved: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = count(0, 100)
    monkeypatch.setattr(last, "time", SimpleNamespace(monotonic=lambda: 60.0 * next(minutes)))
    fit("--checkpoint.every_n_minutes=null")
    assert saved == [3, 6]


@pytest.mark.parametrize("value", ["0", "-1"])
@pytest.mark.parametrize("name", ["every_n_steps", "every_n_minutes"])
def test_an_interval_that_is_none_is_refused(name: str, value: str, arguments: Callable[..., list[str]]) -> None:
    with pytest.raises(SystemExit, match=rf"checkpoint\.{name} is {value}.*; expected above 0, or null"):
        main(["fit", *arguments("autoencoder", f"--checkpoint.{name}={value}")])


def test_a_run_without_validation_keeps_its_last_step(fit: Fit, saved: list[int]) -> None:
    fit("--trainer.limit_val_batches=0")
    assert saved == [6]
    assert content()["global_step"] == 6
