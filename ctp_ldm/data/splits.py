"""Which patients train, validate and test: always by patient, always reproducible."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PARTS = ("train", "val", "test")


class SplitError(ValueError):
    """A split leaves a part empty, names unknown patients, or puts one into two parts."""


class Split(ABC):
    """Divides patients into train, val and test."""

    @abstractmethod
    def assign(self, names: list[str]) -> dict[str, list[str]]:
        """Sorted patient names → the names of each part."""


@dataclass(frozen=True)
class RandomSplit(Split):
    """Shuffled with a seed; the first `test` go to test, the next `val` to validation, the rest train.

    val, test: shares of the patients, at least one patient each where above 0.
    """

    val: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise SplitError(f"shares must be in [0, 1) and sum below 1, found val={self.val}, test={self.test}")

    def assign(self, names: list[str]) -> dict[str, list[str]]:
        order = _shuffled(names, self.seed)
        test = max(1, round(self.test * len(order))) if self.test else 0
        val = max(1, round(self.val * len(order))) if self.val else 0
        return {"test": order[:test], "val": order[test : test + val], "train": order[test + val :]}


@dataclass(frozen=True)
class KFold(Split):
    """Fold `fold` of `folds` is the test part, the next one the validation part, the rest train."""

    folds: int = 5
    fold: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 3 or not 0 <= self.fold < self.folds:
            raise SplitError(f"needs folds ≥ 3 and 0 ≤ fold < folds, found folds={self.folds}, fold={self.fold}")

    def assign(self, names: list[str]) -> dict[str, list[str]]:
        order = _shuffled(names, self.seed)
        chunks = [order[i :: self.folds] for i in range(self.folds)]
        val = (self.fold + 1) % self.folds
        rest = [name for i, chunk in enumerate(chunks) if i not in (self.fold, val) for name in chunk]
        return {"test": chunks[self.fold], "val": chunks[val], "train": rest}


@dataclass(frozen=True)
class ListedSplit(Split):
    """As listed in a JSON file: {"train": [names], "val": [names], "test": [names]}."""

    path: Path

    def assign(self, names: list[str]) -> dict[str, list[str]]:
        try:
            listed = json.loads(Path(self.path).read_text())
            parts = {part: [str(name) for name in listed[part]] for part in PARTS}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SplitError(
                f"{self.path}: expected a JSON object with lists train, val and test ({error!r})"
            ) from error
        everyone = [name for part in PARTS for name in parts[part]]
        unknown = sorted(set(everyone) - set(names))
        twice = sorted({name for name in everyone if everyone.count(name) > 1})
        if unknown or twice:
            raise SplitError(
                f"{self.path}: not in the store: {unknown or 'none'}; listed more than once: {twice or 'none'}"
            )
        return parts


def _shuffled(names: list[str], seed: int) -> list[str]:
    ordered = sorted(names)
    return [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]
