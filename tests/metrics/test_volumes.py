"""A patient's volumes on disk."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from ctp_ldm.metrics import PatientVolumes, VolumesError
from metrics.brains import BRAIN, real_image, volumes, without_segmenter


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_written_is_read(whole: bool, tmp_path: Path) -> None:
    patient = without_segmenter(volumes(real_image(), lesion=None))
    if whole:
        image = real_image()
        extras = {"deviation": image * 0.1, "source": image[:, :1], "sources": ("tmax",), "penumbra": BRAIN}
        patient = replace(volumes(image), **extras)  # type: ignore[arg-type]
    patient.save(tmp_path / "new" / "sub-1.npz")
    again = PatientVolumes.load(tmp_path / "new" / "sub-1.npz")
    for field in fields(PatientVolumes):
        before, after = getattr(patient, field.name), getattr(again, field.name)
        if isinstance(before, np.ndarray):
            assert after.dtype == before.dtype, field.name
            assert after == pytest.approx(before, rel=1e-3), field.name
        else:
            assert after == before, field.name
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["sub-1.npz"]


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_a_file_that_cannot_be_read_says_what_to_do(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "sub-1.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VolumesError, match=r"sub-1.npz cannot be read .*; run ctp-ldm test again"):
        PatientVolumes.load(path)


def test_an_archive_of_another_layout_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "sub-1.npz", case="sub-1")
    with pytest.raises(VolumesError):
        PatientVolumes.load(tmp_path / "sub-1.npz")
