"""Files in any of a quantity's units give the same values, and what does not tell its unit is refused."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.units import to_hounsfield, unit_factor
from ctp_ldm.data.volumes import read_volume

from .files import AFFINE, volume
from .heads import head

UNITS = {"s": 1.0, "ms": 1e-3}
TYPICAL = (0.8, 30.0)
BRAIN = np.zeros((6, 6, 3), bool)
BRAIN[1:5, 1:5] = True


def _map(level: float) -> np.ndarray:
    """The median in the brain is `level`; what lies outside has no say."""
    values = np.full(BRAIN.shape, -1e6)
    values[BRAIN] = level * np.linspace(0.5, 1.5, BRAIN.sum())
    return values


# ------------------------------------------------------------------------------------------------------- unit_factor


@given(level=st.floats(0.81, 29.9), unit=st.sampled_from(sorted(UNITS)))
def test_the_unit_is_the_one_that_makes_the_median_plausible(level: float, unit: str) -> None:
    found = unit_factor(volume(_map(level / UNITS[unit])), BRAIN, UNITS, TYPICAL)
    assert found == (unit, UNITS[unit])


@given(level=st.floats(1e-6, 1e6))
def test_no_level_is_taken_for_what_is_implausible(level: float) -> None:
    stored = float(np.float32(level))
    plausible = [unit for unit, factor in UNITS.items() if TYPICAL[0] <= stored * factor <= TYPICAL[1]]
    try:
        found = [unit_factor(volume(np.full(BRAIN.shape, level)), BRAIN, UNITS, TYPICAL)[0]]
    except DataFault:
        found = []
    assert found == plausible


@pytest.mark.parametrize("level", [0.79, 31.0, 799.0, 31e3, 0.0, -4.0])
def test_a_level_between_or_beyond_the_units_is_refused_with_both_ranges(level: float) -> None:
    with pytest.raises(DataFault, match=r"mtt\.nii has a median of .*expected 0\.8–30 in s or 800–3e\+04 in ms"):
        unit_factor(volume(_map(level), name="mtt.nii"), BRAIN, UNITS, TYPICAL)


def test_a_level_that_fits_two_units_is_refused_unless_one_is_stated() -> None:
    two = {"mL/100 g": 1.0, "mL/g": 100.0}
    file = volume(_map(1.0), name="cbv.nii")
    with pytest.raises(DataFault, match=r"cbv\.nii .* fits mL/100 g and mL/g; state which with data\.units"):
        unit_factor(file, BRAIN, two, (0.4, 150.0))
    assert unit_factor(file, BRAIN, two, (0.4, 150.0), stated="mL/g") == ("mL/g", 100.0)


def test_a_stated_unit_that_the_values_contradict_is_refused() -> None:
    with pytest.raises(DataFault, match="has a median of 4 in the brain; expected"):
        unit_factor(volume(_map(4.0)), BRAIN, UNITS, TYPICAL, stated="ms")


def test_an_unknown_unit_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataFault, match=r"mtt\.nii: unit 'minutes' is unknown; expected auto, s, ms"):
        unit_factor(volume(_map(4.0), name="mtt.nii"), BRAIN, UNITS, TYPICAL, stated="minutes")


def test_the_quantile_decides_where_the_median_may_be_zero() -> None:
    values = np.zeros(BRAIN.shape)
    values[4, 1:5] = 9000.0  # a quarter of the brain is late
    assert unit_factor(volume(values), BRAIN, UNITS, TYPICAL, quantile=0.95) == ("ms", 1e-3)
    with pytest.raises(DataFault, match="has a median of 0"):
        unit_factor(volume(values), BRAIN, UNITS, TYPICAL)
    with pytest.raises(DataFault, match="has a 95% quantile of 0"):
        unit_factor(volume(0 * values), BRAIN, UNITS, TYPICAL, quantile=0.95)


# --------------------------------------------------------------------------------------------------------------- CT

HU, HEAD_BRAIN, _ = head((2.0, 2.0, 5.0))
HEADS = {
    "whole": HU,
    "stripped-on-0": np.where(HEAD_BRAIN, HU, np.float32(0)),
    "stripped-on-air": np.where(HEAD_BRAIN, HU, np.float32(-1000)),
    "stripped-on-padding": np.where(HEAD_BRAIN, HU, np.float32(-3024)),
}
every_head = pytest.mark.parametrize("hu", HEADS.values(), ids=HEADS)


@every_head
@pytest.mark.parametrize(("unit", "offset"), [("HU", 0), ("HU+1024", 1024)])
@pytest.mark.parametrize("stated", [False, True], ids=["auto", "stated"])
def test_heads_come_out_in_hu_from_both_units(hu: np.ndarray, unit: str, offset: int, stated: bool) -> None:
    found = to_hounsfield(volume(hu + offset), unit if stated else "auto")
    assert found.unit == unit
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, hu, atol=1e-3)


def test_a_head_stripped_after_the_offset_was_added_is_known_by_its_brain() -> None:
    """Its background is 0, not 1024."""
    stored = np.where(HEAD_BRAIN, HU + 1024, np.float32(0))
    found = to_hounsfield(volume(stored))
    assert found.unit == "HU+1024"
    np.testing.assert_allclose(found.values[HEAD_BRAIN], HU[HEAD_BRAIN], atol=1e-3)


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
