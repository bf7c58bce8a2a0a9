"""What an epoch shows, shared out to processes, and gone on with in the middle of it."""

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset

from ctp_ldm.callbacks import LastCheckpoint
from ctp_ldm.data.sampling import Draw, EvenBatches, LesionAwareSampler, ResumableLoader, WholePatients

lesions = st.lists(st.booleans(), min_size=1, max_size=120)
factors = st.one_of(st.integers(1, 4).map(float), st.floats(1, 5))


def _epoch(lesion: list[bool], oversampling: float = 1.0, seed: int = 0, epoch: int = 0) -> list[Draw]:
    sampler = LesionAwareSampler(lesion, oversampling, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


# ------------------------------------------------------------------------------------------------------------ epochs


@given(lesion=lesions, oversampling=factors, seed=st.integers(0, 99), epoch=st.integers(0, 99))
def test_slices_come_once_and_those_with_lesion_as_often_as_asked(
    lesion: list[bool], oversampling: float, seed: int, epoch: int
) -> None:
    draws = _epoch(lesion, oversampling, seed, epoch)
    shown = Counter(draw.slice for draw in draws)
    assert set(shown) == set(range(len(lesion)))
    assert all(shown[i] == 1 for i, has_lesion in enumerate(lesion) if not has_lesion)
    often = [shown[i] for i, has_lesion in enumerate(lesion) if has_lesion]
    assert all(np.floor(oversampling) <= n <= np.ceil(oversampling) for n in often)
    assert abs(sum(often) - oversampling * len(often)) <= 0.5
    assert len(LesionAwareSampler(lesion, oversampling)) == len(draws)


@given(lesion=lesions, oversampling=factors)
def test_every_showing_of_an_epoch_has_a_number_of_its_own(lesion: list[bool], oversampling: float) -> None:
    draws = _epoch(lesion, oversampling, epoch=7)
    repeats = {i: sorted(draw.repeat for draw in draws if draw.slice == i) for i in range(len(lesion))}
    assert all(found == list(range(len(found))) for found in repeats.values())
    assert {draw.epoch for draw in draws} == {7}


def test_seed_and_epoch_decide_the_order() -> None:
    lesion = [i % 3 == 0 for i in range(60)]
    orders = {(s, e): [d.slice for d in _epoch(lesion, 2.5, s, e)] for s in (0, 1) for e in (0, 1)}
    assert orders[0, 0] == [d.slice for d in _epoch(lesion, 2.5, 0, 0)]
    assert len({tuple(order) for order in orders.values()}) == 4
    assert orders[0, 0] != sorted(orders[0, 0])


def test_a_fraction_is_shared_out_anew_each_epoch() -> None:
    """2.5 shows half of the slices a third time; after some epochs each has had its turn."""
    lesion = [True] * 20
    thirds = [{d.slice for d in _epoch(lesion, 2.5, epoch=e) if d.repeat == 2} for e in range(12)]
    assert {len(third) for third in thirds} == {10}
    assert set.union(*thirds) == set(range(20))


@pytest.mark.parametrize("factor", [0.99, 0.0, -1.0, float("nan")])
def test_oversampling_below_one_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match=f"lesion_oversampling must be at least 1, found {factor}"):
        LesionAwareSampler([True], factor)


# --------------------------------------------------------------------------------------------------------- processes


@given(lesion=lesions, oversampling=factors, batch_size=st.integers(1, 40), processes=st.integers(1, 8))
def test_processes_show_together_exactly_what_the_epoch_shows(
    lesion: list[bool], oversampling: float, batch_size: int, processes: int
) -> None:
    sampler = LesionAwareSampler(lesion, oversampling)
    processes = min(processes, len(lesion))
    shares = [EvenBatches(sampler, batch_size, rank, processes) for rank in range(processes)]
    batches = [list(share) for share in shares]
    assert Counter(draw for share in batches for batch in share for draw in batch) == Counter(sampler)
    # A process with fewer steps than the others would leave them waiting for its gradients.
    assert {len(share) for share in batches} == {len(share) for share in shares} == {len(batches[0])}
    sizes = [len(batch) for share in batches for batch in share]
    assert 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1
    assert max(sizes) <= batch_size or (batch_size == 1 and len(sampler) % processes)
    assert len(batches[0]) <= np.ceil(len(sampler) / (processes * batch_size))


def test_one_process_shows_the_epoch_in_its_order() -> None:
    sampler = LesionAwareSampler([True] * 23, seed=4)
    assert [draw for batch in EvenBatches(sampler, 5) for draw in batch] == list(sampler)
    assert [len(batch) for batch in EvenBatches(sampler, 5)] == [5, 4, 5, 4, 5]


# ---------------------------------------------------------------------------------------------------------- going on


class Shown(Dataset[dict[str, Any]]):
    """Tells what was asked of it."""

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        return {"draw": torch.tensor(draw)}

    def __len__(self) -> int:
        return 23


def _loader(workers: int = 0, rank: int = 0, processes: int = 1) -> ResumableLoader:
    sampler = LesionAwareSampler([i < 8 for i in range(23)], 1.5, seed=3)
    batches = EvenBatches(sampler, 4, rank, processes)
    return ResumableLoader(Shown(), batch_sampler=batches, num_workers=workers, persistent_workers=workers > 0)


def _draws(batch: dict[str, Tensor]) -> list[tuple[int, ...]]:
    return [tuple(draw) for draw in batch["draw"].tolist()]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("place", [(0, 1), (1, 2)], ids=["alone", "second-of-two"])
def test_a_loader_goes_on_with_what_was_not_shown_yet(workers: int, place: tuple[int, int]) -> None:
    reference = _loader(0, *place)
    reference.batch_sampler.sampler.set_epoch(2)
    whole = [_draws(batch) for batch in reference]
    for shown in (0, 1, len(whole) - 1):
        first, second = _loader(workers, *place), _loader(workers, *place)
        first.batch_sampler.sampler.set_epoch(2)
        batches = iter(first)
        assert [_draws(next(batches)) for _ in range(shown)] == whole[:shown]
        second.load_state_dict(first.state_dict())
        assert len(second) == len(whole)
        assert [_draws(batch) for batch in second] == whole[shown:]
        # The epoch after that is whole again.
        assert [_draws(batch) for batch in second] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_after_the_last_batch_of_an_epoch_the_next_one_follows(workers: int) -> None:
    first, second, reference = (_loader(workers) for _ in range(3))
    assert len(list(first)) == len(first)
    second.load_state_dict(first.state_dict())
    reference.batch_sampler.sampler.set_epoch(1)
    assert [_draws(batch) for batch in second] == [_draws(batch) for batch in reference]


class Recorder(L.LightningModule):
    """Learns nothing and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.shown: list[list[tuple[int, ...]]] = []

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        self.shown.append(_draws(batch))
        return self.weight * 0

    def validation_step(self, batch: dict[str, Tensor]) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _fit(folder: Path, steps: int, validate: int, workers: int, checkpoint: Path | None = None) -> Recorder:
    """As the stages train: validation by steps, and a checkpoint after each."""
    module = Recorder()
    trainer = L.Trainer(
        max_steps=steps,
        val_check_interval=validate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[LastCheckpoint()],
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, _loader(workers), _loader(), ckpt_path=checkpoint)
    return module


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [3, 7, 10, 14], ids=["in-an-epoch", "after-an-epoch", "in-the-second", "after-two"])
def test_a_resumed_run_sees_what_an_uninterrupted_one_would_have(tmp_path: Path, workers: int, stop: int) -> None:
    assert len(_loader()) == 7
    whole = _fit(tmp_path / "whole", 23, stop, 0).shown
    first = _fit(tmp_path / "cut", stop, stop, workers).shown
    second = _fit(tmp_path / "again", 23, stop, workers, tmp_path / "cut" / "checkpoints" / "last.ckpt").shown
    assert first + second == whole


def _sized(batch_size: int) -> ResumableLoader:
    batches = EvenBatches(LesionAwareSampler([False] * 24, seed=3), batch_size)
    return ResumableLoader(Shown(), batch_sampler=batches)


@pytest.mark.parametrize(
    ("before", "shown", "now", "skipped"), [(4, 3, 2, 6), (2, 6, 4, 3), (4, 1, 8, 0), (4, 5, 8, 2), (4, 0, 3, 0)]
)
def test_with_other_batches_a_loader_goes_on_at_the_same_share_of_the_epoch(
    before: int, shown: int, now: int, skipped: int
) -> None:
    """24 slices in batches of so many; half a batch is rounded to an even number."""
    first, second, reference = _sized(before), _sized(now), _sized(now)
    for loader in (first, reference):
        loader.batch_sampler.sampler.set_epoch(2)
    batches = iter(first)
    for _ in range(shown):
        next(batches)
    with pytest.warns(UserWarning, match=rf"an epoch had {24 // before} batches .* and has {24 // now} now"):
        second.load_state_dict(first.state_dict())
    whole = [_draws(batch) for batch in reference]
    assert [_draws(batch) for batch in second] == whole[skipped:]
    assert [_draws(batch) for batch in second] == whole  # the next one is not cut


@pytest.mark.parametrize("now", [2, 3, 8])
def test_with_other_batches_a_finished_epoch_stays_finished(now: int) -> None:
    first, second, reference = _sized(4), _sized(now), _sized(now)
    assert len(list(first)) == 6
    with pytest.warns(UserWarning, match="does not end as the uninterrupted run would"):
        second.load_state_dict(first.state_dict())
    reference.batch_sampler.sampler.set_epoch(1)
    assert [_draws(batch) for batch in second] == [_draws(batch) for batch in reference]


def test_the_same_number_of_batches_and_states_that_do_not_tell_it_are_not_worth_a_word() -> None:
    state = {"epoch": 1, "batches": 2, "of": 6}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _sized(4).load_state_dict(state)
        loader = _sized(4)
        loader.load_state_dict({"epoch": 1, "batches": 2})
    assert len(list(loader)) == 4


# --------------------------------------------------------------------------------------------------- whole patients


@given(slices=st.lists(st.integers(1, 30), max_size=12), batch_size=st.integers(1, 16))
def test_batches_hold_one_patient_each_and_all_slices_in_order(slices: list[int], batch_size: int) -> None:
    patients = [f"p{number}" for number, count in enumerate(slices) for _ in range(count)]
    batches = list(WholePatients(patients, batch_size))
    assert [i for batch in batches for i in batch] == list(range(len(patients)))
    assert all(len({patients[i] for i in batch}) == 1 for batch in batches)
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert len(batches) == len(WholePatients(patients, batch_size)) == sum(-(-count // batch_size) for count in slices)


def test_a_patients_batches_do_not_depend_on_who_else_is_there() -> None:
    together, alone = WholePatients(["a"] * 3 + ["b"] * 5, 2), WholePatients(["b"] * 5, 2)
    assert [[i - 3 for i in batch] for batch in together][2:] == list(alone) == [[0, 1], [2, 3], [4]]
    assert list(together) == list(together)
