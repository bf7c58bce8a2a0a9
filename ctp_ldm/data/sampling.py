"""Which slices an epoch shows, in which order, to which process; and how a run goes on in the middle of one."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Sampler


class Draw(NamedTuple):
    """One showing of a slice: its number, the epoch, and which showing in that epoch it is.

    Together with the seed these decide how it is augmented, whatever process or worker it falls to.
    """

    slice: int
    epoch: int
    repeat: int


class LesionAwareSampler(Sampler[Draw]):
    """Every slice once an epoch in random order, slices with lesion `oversampling` times.

    A fractional factor shows a part of them, drawn anew each epoch, once more: 2.5 shows half of them twice and half
    three times. An epoch's order depends on seed and epoch alone.

    Args:
        lesion: whether each slice has lesion.
        oversampling: 1 or more.
        seed: of order and augmentation.

    Raises:
        ValueError: oversampling is below 1.
    """

    def __init__(self, lesion: Sequence[bool], oversampling: float = 1.0, seed: int = 0) -> None:
        if not oversampling >= 1:
            raise ValueError(f"data.lesion_oversampling must be at least 1, found {oversampling}")
        self.lesion = np.asarray(lesion, dtype=bool)
        self.oversampling, self.seed, self.epoch = oversampling, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning does it before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lesion) + round((self.oversampling - 1) * int(self.lesion.sum()))

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        shown = np.arange(len(self.lesion))
        with_lesion = np.flatnonzero(self.lesion)
        extra = len(self) - len(shown)
        whole, part = divmod(extra, max(1, len(with_lesion)))
        slices = np.concatenate([shown, np.tile(with_lesion, whole), rng.permutation(with_lesion)[:part]])
        repeats = np.concatenate(
            [shown * 0, np.repeat(1 + np.arange(whole), len(with_lesion)), np.full(part, whole + 1)]
        )
        order = rng.permutation(len(slices))
        return (Draw(int(slices[i]), self.epoch, int(repeats[i])) for i in order)


class EvenBatches(Sampler[list[Draw]]):
    """One process's batches of an epoch: together the processes show what the sampler gives, nothing twice, all of it.

    Every process gets the same number of batches, and their sizes differ by at most one: a remainder is spread over all
    batches instead of being dropped, padded or left to one small batch. None is larger than `batch_size`, unless that
    is 1 and the processes do not divide the slices.

    Args:
        sampler: the epoch's order, the same in every process.
        batch_size: the most in one batch.
        rank, processes: which one of how many.
    """

    def __init__(self, sampler: LesionAwareSampler, batch_size: int, rank: int = 0, processes: int = 1) -> None:
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, False
        self.rank, self.processes = rank, processes
        self.first = 0

    def __len__(self) -> int:
        wanted = math.ceil(len(self.sampler) / (self.processes * self.batch_size))
        return min(wanted, len(self.sampler) // self.processes)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = list(self.sampler)
        ends = np.linspace(0, len(order), len(self) * self.processes + 1).round().astype(int)
        batches = [order[a:b] for a, b in itertools.pairwise(ends)][self.rank :: self.processes]
        return iter(batches[self.first :])


class WholePatients(Sampler[list[int]]):
    """Batches of the slices of one patient each.

    What a network makes of a slice can depend, in its last bits, on what else is in the batch: so the figures of a
    patient are the same in any number of processes.

    Args:
        patients: of each slice, those of one patient together.
        batch_size: the most in one batch.
    """

    def __init__(self, patients: Sequence[str], batch_size: int) -> None:
        self.batches = [
            batch
            for _, slices in itertools.groupby(range(len(patients)), key=lambda i: patients[i])
            for batch in _chunks(list(slices), batch_size)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class ResumableLoader(DataLoader[dict[str, Any]]):
    """A loader of `EvenBatches` whose position is part of Lightning's checkpoint.

    A run that is resumed in the middle of an epoch sees the batches that it had not seen, instead of the first ones
    again. `len` stays that of the whole epoch.
    """

    batch_sampler: EvenBatches

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.given = 0
        self._resume_at = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        self.given = self.batch_sampler.first = self._resume_at
        self._resume_at = 0
        return self._counted(super().__iter__())

    def _counted(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for batch in batches:
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How far the current epoch is."""
        return {"epoch": self.batch_sampler.sampler.epoch, "batches": self.given, "of": len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on there when iterated next; after the last batch of an epoch that is the next one.

        With another number of batches (other processes, batch size or patients) it goes on at the same share of the
        epoch, and says so: that run is another one.
        """
        before, now = state.get("of", len(self)), len(self)
        if before != now:
            rank_zero_warn(
                f"an epoch had {before} batches when the checkpoint was written and has {now} now (data.batch_size, "
                "the number of processes or the training patients have changed): training goes on at the same share of "
                "the epoch, but does not end as the uninterrupted run would"
            )
        epochs, self._resume_at = divmod(round(state["batches"] * now / before), now)
        self.batch_sampler.sampler.set_epoch(state["epoch"] + epochs)


def _chunks(items: list[int], size: int) -> list[list[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
