"""Maps in any of a quantity's units give the same values, and what does not tell its unit is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.units import unit_factor

from .files import volume

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
