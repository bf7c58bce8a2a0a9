"""What was added to HU in a CT file is recognised or refused, and no file comes out shifted."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctp_ldm.data import NonContrastCT
from ctp_ldm.data.faults import DataFault, UnknownUnit
from ctp_ldm.data.hounsfield import to_hounsfield
from ctp_ldm.data.volumes import read_volume

from .conftest import CASES
from .files import AFFINE, isles_file, volume
from .heads import head

HU, HEAD_BRAIN, _ = head((2.0, 2.0, 5.0))
HEADS = {
    "whole": HU,
    "stripped-on-0": np.where(HEAD_BRAIN, HU, np.float32(0)),
    "stripped-on-air": np.where(HEAD_BRAIN, HU, np.float32(-1000)),
    **{f"stripped-on{b}": np.where(HEAD_BRAIN, HU, np.float32(b)) for b in (-1024, -3024, -8192)},
    "air-cut-off": HU.clip(-1000, None),
}
every_head = pytest.mark.parametrize("hu", HEADS.values(), ids=HEADS)


@every_head
@pytest.mark.parametrize(
    ("unit", "offset"), [("HU", 0), ("HU+1000", 1000), ("HU+1010", 1010), ("HU+1024", 1024)], ids=lambda v: str(v)
)
@pytest.mark.parametrize("stated", [False, True], ids=["auto", "stated"])
def test_heads_come_out_in_hu_from_every_unit(hu: np.ndarray, unit: str, offset: int, stated: bool) -> None:
    found = to_hounsfield(volume(hu + offset), unit if stated else "auto")
    assert found.unit == unit
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, hu, atol=1e-3)


OTHERS = (-1024, -100, -24, 24, 50, 100, 512, 900, 976, 1050, 1100, 2000, 2048, 4096, 8192, 32768)


@every_head
@pytest.mark.parametrize("offset", OTHERS)
def test_offsets_that_nobody_uses_are_refused_with_what_was_found(hu: np.ndarray, offset: int) -> None:
    with pytest.raises(UnknownUnit, match=r"ct\.nii has values of .*HU \+ 1000, 1010 or 1024.* state its unit"):
        to_hounsfield(volume(hu + offset, name="ct.nii"))


@pytest.mark.parametrize("level", [-6.0, -3.0, 0.0, 3.0, 6.0])
@pytest.mark.parametrize("air", [-6.0, 0.0, 6.0])
@pytest.mark.parametrize("noise", [0.0, 3.0, 15.0])
def test_no_offset_is_taken_for_another_whatever_the_head(level: float, air: float, noise: float) -> None:
    """Darker and brighter brains, air that is not quite -1000, unsigned files; with skull and without."""
    true = HU + np.where(HU > -500, level, air) + np.random.default_rng(0).normal(0, noise, HU.shape)
    stripped = np.where(HEAD_BRAIN, true, 0)
    for offset in (0, 1000, 1010, 1024):
        files = [true + offset, stripped + offset, np.where(HEAD_BRAIN, true + offset, 0)]
        files += [np.clip(true + offset, 0, None)] if offset else []
        for file in files:
            try:
                found = to_hounsfield(volume(np.round(file)))
            except UnknownUnit:
                assert offset  # HU itself is never doubted
            else:
                assert found.unit == (f"HU+{offset}" if offset else "HU")


def test_unsigned_noisy_heads_are_recognised() -> None:
    """The half of the air that lies below the offset is cut off."""
    noisy = HU + np.random.default_rng(0).normal(0, 12, HU.shape)
    for offset in (1000, 1010, 1024):
        assert to_hounsfield(volume(np.clip(noisy + offset, 0, None))).unit == f"HU+{offset}"


def test_a_head_stripped_after_the_offset_was_added_is_known_by_its_brain_or_refused() -> None:
    """Its background is 0 and says nothing; 1000 and 1010 lie too close for tissue to tell them apart."""
    found = to_hounsfield(volume(np.where(HEAD_BRAIN, HU + 1024, np.float32(0))))
    assert found.unit == "HU+1024"
    np.testing.assert_allclose(found.values[HEAD_BRAIN], HU[HEAD_BRAIN], atol=1e-3)
    refused = r"tissue at 1040 and a background of 0, which fits HU\+1000 and HU\+1010; state which"
    with pytest.raises(UnknownUnit, match=refused):
        to_hounsfield(volume(np.where(HEAD_BRAIN, HU + 1010, np.float32(0))))


def test_air_of_one_value_at_1000_below_is_recognised() -> None:
    np.testing.assert_allclose(NonContrastCT().calibrate(volume(HU + 1000)).values, HU, atol=1e-3)


@pytest.mark.parametrize(("offset", "stated"), [(1000, "HU+1024"), (0, "HU+1000"), (1024, "HU"), (1024, "HU+1000")])
@pytest.mark.parametrize("head", ["whole", "stripped"])
def test_a_stated_offset_that_air_and_tissue_contradict_is_refused(head: str, offset: int, stated: str) -> None:
    """It may be that of the other cases of a data set, not this file's."""
    hu = HU if head == "whole" else np.where(HEAD_BRAIN, HU, np.float32(-1000))
    refused = rf"ct\.nii has its tissue at .* which fits .*; expected {re.escape(stated)}, as data\.units or the other"
    with pytest.raises(DataFault, match=refused):
        to_hounsfield(volume(hu + offset, name="ct.nii"), stated)


def test_grey_values_of_a_window_are_refused_unless_they_are_stated_to_be_hu() -> None:
    for low, high in ((0, 400), (0, 300), (-20, 300)):
        grey = np.round((HU.clip(low, high) - low) * 255 / (high - low))
        with pytest.raises(
            DataFault, match=r"ct\.nii is cut off at 0 and at 255: grey values .* export the CT without"
        ):
            to_hounsfield(volume(grey, name="ct.nii"))
    window = HU.clip(0, 255)
    np.testing.assert_array_equal(to_hounsfield(volume(window), "HU").values, window)


@pytest.mark.parametrize("index", range(1, CASES + 1))
def test_simulated_patients_are_in_hu(shared_tree: Path, index: int) -> None:
    ctp = read_volume(isles_file(shared_tree, index, "ctp"), 4)
    assert to_hounsfield(ctp).unit == "HU"
    for offset in (1000, 1010, 1024):
        assert to_hounsfield(volume(ctp.values[..., 0] + offset)).unit == f"HU+{offset}"


def test_a_series_is_judged_by_its_first_frame() -> None:
    """Contrast, or a frame that came out black, does not change the unit."""
    series = np.stack([HU, HU + 400 * HEAD_BRAIN, np.zeros_like(HU)], axis=-1)
    for offset in (0, 1024):
        found = to_hounsfield(volume(series + offset, np.arange(3.0)))
        np.testing.assert_allclose(found.values, series, atol=1e-3)


@pytest.mark.parametrize("offset", [1000, 1024, 32768])
def test_any_offset_may_be_stated(offset: int) -> None:
    found = to_hounsfield(volume(HU + offset), f"HU+{offset}")
    np.testing.assert_allclose(found.values, HU, atol=5e-3)
    assert found.unit == f"HU+{offset}"


@pytest.mark.parametrize("unit", ["hu", "HU-1024", "HU+", "HU + 1024", "mL", ""])
def test_what_is_no_unit_of_ct_is_refused(unit: str) -> None:
    with pytest.raises(DataFault, match=r"ct\.nii: unit .* is unknown; expected auto, HU or HU\+1024"):
        to_hounsfield(volume(HU, name="ct.nii"), unit)


@pytest.mark.parametrize(
    "values", [HU * 0 + 500, np.clip(HU / 4000, 0, 1) + 5, HU + 32768, HU * 0], ids=["500", "0-1", "+32768", "0"]
)
def test_values_that_show_neither_air_nor_brain_are_refused(values: np.ndarray) -> None:
    with pytest.raises(DataFault, match=r"ct\.nii has values of .* neither air nor brain .* state its unit"):
        to_hounsfield(volume(values, name="ct.nii"))


@pytest.mark.parametrize("intercept", [-1024.0, 0.0, -8192.0])
def test_integers_with_an_intercept_come_out_in_hu(tmp_path: Path, intercept: float) -> None:
    """As scanners' files are converted: int16, the offset in the header or in the values."""
    lost = 1024 if intercept == 0 else 0  # a converter that dropped the intercept leaves it in the values
    stored = (np.round(HU) + lost - intercept).astype(np.int16)
    image = nib.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(1.0, intercept)
    nib.save(image, tmp_path / "ct.nii.gz")
    read = read_volume(tmp_path / "ct.nii.gz")
    found = to_hounsfield(read)
    assert found.unit == ("HU+1024" if lost else "HU")
    np.testing.assert_allclose(found.values[::-1], np.round(HU), atol=1e-3)  # AFFINE is LAS
    assert found.digest == read.digest
