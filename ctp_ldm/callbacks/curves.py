"""What is found at every cut-off, patient by patient, while evaluation goes on."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from ctp_ldm.metrics.curves import COLUMNS, CUTOFFS, OperatingCurve, count_above
from ctp_ldm.sample import Sample

CurveRow = dict[str, list[float]]


class CurveCounter:
    """Counts voxels above each cut-off, in and outside the reference, slice by slice.

    Args:
        own: cut-off that lesions are found with; it is one of the curve's.
    """

    def __init__(self, own: float) -> None:
        self.cutoffs = sorted({*CUTOFFS, own})
        self._counts: dict[str, dict[int, list[list[int]]]] = {}

    def add(self, scores: Tensor, batch: Sample) -> None:
        """Take in a batch; slices without a reference mask are no part of a curve."""
        if "lesion" not in batch:
            return
        brain = batch["brain"] > 0.5
        lesion = (batch["lesion"] > 0.5) & brain
        found = count_above(scores, brain, self.cutoffs).tolist()
        shared = count_above(scores, lesion, self.cutoffs).tolist()
        sizes = lesion.flatten(1).sum(dim=1).tolist()
        for i, (case, index) in enumerate(zip(batch["case"], batch["slice_index"].tolist(), strict=True)):
            reference = [sizes[i]] * len(self.cutoffs)
            self._counts.setdefault(case, {})[index] = [found[i], shared[i], reference]

    def take(self, case: str, voxel_ml: float) -> CurveRow | None:
        """Of a patient that is whole: a column → its value at every cut-off, in mL; None without a reference."""
        slices = self._counts.pop(case, {}).values()
        if not slices:
            return None
        volumes = np.sum(list(slices), axis=0) * voxel_ml
        return dict(zip(COLUMNS[1:], [self.cutoffs, *volumes.tolist()], strict=True))


def curve_table(rows: Mapping[str, CurveRow]) -> pd.DataFrame:
    """A row for each patient and cut-off, with the columns `COLUMNS`."""
    tables: Sequence[pd.DataFrame] = [pd.DataFrame({"case": case, **row}) for case, row in rows.items()]
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def curve_of(rows: Mapping[str, CurveRow]) -> OperatingCurve:
    """Of all patients."""
    return OperatingCurve.from_table(curve_table(rows))
