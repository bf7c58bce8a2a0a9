"""How a NIfTI header says where its voxels lie: two forms, each with a code, in a unit of length."""

from dataclasses import dataclass
from typing import Any, Self

import nibabel as nib
import numpy as np

MM = {"unknown": 1.0, "meter": 1e3, "mm": 1.0, "micron": 1e-3}
"""Unit of length → mm; who does not say means mm."""

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Forms:
    """qform and sform of a file as its header had them, so that what is made from it can say the same.

    qform, sform: 4 × 4, voxel → `unit`; a qform that cannot be read is None.
    codes: of qform and sform; 0: the form does not count.
    unit: of length, a key of `MM`.
    """

    qform: Rows | None
    sform: Rows
    codes: tuple[int, int]
    unit: str = "mm"

    @classmethod
    def of(cls, header: nib.nifti1.Nifti1Header, unit: str) -> Self:
        """Those of a header.

        Raises:
            ValueError: a qform that counts and cannot be read.
        """
        codes = int(header["qform_code"]), int(header["sform_code"])
        try:
            qform = _rows(header.get_qform())
        except ValueError:
            if codes[0] > 0:
                raise
            qform = None
        return cls(qform, _rows(header.get_sform()), codes, unit)

    def apply(self, image: nib.nifti1.Nifti1Image) -> None:
        """Give an image both forms, their codes and the unit."""
        image.set_sform(np.array(self.sform), code=self.codes[1])
        if self.qform is not None:
            image.set_qform(np.array(self.qform), code=self.codes[0])
        # Nobody said mm, but it was read as mm.
        image.header.set_xyzt_units("mm" if self.unit == "unknown" else self.unit)

    def to_plain(self) -> dict[str, Any]:
        """Plain data for JSON."""
        qform = None if self.qform is None else [list(row) for row in self.qform]
        return {"qform": qform, "sform": [list(r) for r in self.sform], "codes": list(self.codes), "unit": self.unit}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Rebuild from `to_plain`."""
        qform = None if plain["qform"] is None else _rows(plain["qform"])
        first, second = (int(code) for code in plain["codes"])
        return cls(qform, _rows(plain["sform"]), (first, second), str(plain["unit"]))


def _rows(matrix: Any) -> Rows:
    return tuple(tuple(float(v) for v in row) for row in matrix)
