"""Faults of a data set: collected over all cases, raised together."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


class DataFault(ValueError):
    """One thing that is wrong with one case: names the file, what was found, what was expected, what to do."""


class UnknownUnit(DataFault):
    """A file does not tell its unit; the other files of its data set may."""


@dataclass(frozen=True)
class CaseFault:
    """A fault with the case it belongs to."""

    case: str
    message: str

    def __str__(self) -> str:
        return f"{self.case}: {self.message}"


class DataFaults(ValueError):
    """Every fault of a data set, in one error."""

    def __init__(self, faults: Iterable[CaseFault], remedy: str) -> None:
        self.faults, self.remedy = list(faults), remedy
        listing = "\n  ".join(str(fault) for fault in self.faults)
        super().__init__(f"{len(self.faults)} fault(s):\n  {listing}\n{remedy}")

    def __reduce__(self) -> tuple[type[Self], tuple[list[CaseFault], str]]:
        # An exception is pickled with its message alone, which would not come back from a worker process.
        return type(self), (self.faults, self.remedy)
