"""From a file's values to physical ones, whatever unit or scale the file has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.quantities import ApparentDiffusion, CTPerfusion, Intensity, RelativeDWI, RobustRange
from ctp_ldm.scaling import Linear

from .files import volume

SHAPE = (8, 9, 5)
RNG = np.random.default_rng(0)
BRAIN = np.zeros(SHAPE, bool)
BRAIN[1:7, 1:8, :] = True
ADC = RNG.normal(800, 60, SHAPE).clip(660, 940)
ADC[1:3, 1:4, :] = 450.0  # infarct
ADC[4:6, 4:7, 1:3] = 2900.0  # ventricle
ADC[~BRAIN] = 0.0
DWI = 500 * np.exp(-ADC / 1000) * BRAIN


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-6], ids=["1e-6", "1e-3", "1"])
def test_adc_comes_out_the_same_from_every_unit(unit: float) -> None:
    found = ApparentDiffusion().convert("adc", {"adc": volume(ADC * unit)}, BRAIN)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, ADC[None], rtol=1e-5)


@pytest.mark.parametrize("factor", [0.1, 10.0, 1e-2, 1e-4, 1e-5, 1e-8, 1e3, 0.0, -1.0])
def test_adc_of_an_ambiguous_unit_is_refused(factor: float) -> None:
    with pytest.raises(DataFault, match=r"adc\.nii\.gz has a median of"):
        ApparentDiffusion().convert("adc", {"adc": volume(ADC * factor, name="adc.nii.gz")}, BRAIN)


def test_small_negative_adc_and_dwi_of_interpolation_become_zero() -> None:
    adc, dwi = ADC.copy(), DWI.copy()
    adc[0, 0, 0], dwi[0, 0, 0] = -12.0, -3.0
    volumes = {"adc": volume(adc), "dwi": volume(dwi)}
    assert ApparentDiffusion().convert("adc", volumes, BRAIN).min() == 0
    assert RelativeDWI().convert("dwi", volumes, BRAIN).min() == 0


@given(gain=st.floats(1e-4, 1e6))
def test_the_scanners_gain_does_not_reach_relative_dwi(gain: float) -> None:
    def relative(factor: float) -> np.ndarray:
        return RelativeDWI().convert("dwi", {"dwi": volume(DWI * factor), "adc": volume(ADC)}, BRAIN)

    np.testing.assert_allclose(relative(gain), relative(1.0), rtol=1e-5)


def test_normal_tissue_is_one_however_large_the_infarct() -> None:
    adc, dwi = ADC.copy(), DWI.copy()
    adc[1:6, 1:8], dwi[1:6, 1:8] = 450.0, 900.0  # most of the brain
    relative = RelativeDWI().convert("dwi", {"dwi": volume(dwi), "adc": volume(adc)}, BRAIN)[0]
    normal = BRAIN & (adc >= 650) & (adc <= 950)
    assert np.median(relative[normal]) == pytest.approx(1.0, abs=1e-5)
    assert relative[3, 3, 2] == pytest.approx(900 / np.median(dwi[normal]), rel=1e-5)


def test_without_adc_the_whole_brain_is_the_reference() -> None:
    relative = RelativeDWI().convert("dwi", {"dwi": volume(DWI)}, BRAIN)[0]
    np.testing.assert_allclose(relative, DWI / np.median(DWI[BRAIN]), rtol=1e-5)


@pytest.mark.parametrize("dwi", [np.zeros(SHAPE), -DWI])
def test_dwi_without_signal_is_refused(dwi: np.ndarray) -> None:
    with pytest.raises(DataFault, match=r"dwi\.nii\.gz has a median of .* expected a positive signal"):
        RelativeDWI().convert("dwi", {"dwi": volume(dwi, name="dwi.nii.gz"), "adc": volume(ADC)}, BRAIN)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (37.0, -500.0), (1e-3, 2.0)])
def test_robust_range_is_the_brains_quantiles_whatever_gain_and_offset(gain: float, offset: float) -> None:
    values = RNG.permutation(BRAIN.sum()) / (BRAIN.sum() - 1.0)
    image = np.full(SHAPE, -1e3)  # what lies outside the brain has no say
    image[BRAIN] = values * gain + offset
    found = RobustRange(0.05, 0.95).convert("t1", {"t1": volume(image)}, BRAIN)[0]
    np.testing.assert_allclose(found[BRAIN], (values - 0.05) / 0.9, atol=2e-3)


def test_robust_range_refuses_a_constant_image() -> None:
    with pytest.raises(DataFault, match=r"t1\.nii\.gz is constant inside the brain \(7\)"):
        RobustRange().convert("t1", {"t1": volume(np.full(SHAPE, 7.0), name="t1.nii.gz")}, BRAIN)


def test_intensity_keeps_values_and_names_its_unit() -> None:
    quantity = Intensity(low=0.0, high=12.0, unit="s")
    np.testing.assert_array_equal(quantity.convert("tmax", {"tmax": volume(DWI)}, BRAIN), np.float32(DWI)[None])
    (channel,) = quantity.channels("tmax")
    assert (channel.name, channel.scaling) == ("tmax", Linear("s", 0.0, 12.0))


def test_perfusion_channels_are_the_baseline_and_numbered_phases() -> None:
    channels = CTPerfusion(phases=15).channels("ctp")
    assert [c.name for c in channels] == ["ctp_baseline", *(f"ctp_{i:02d}" for i in range(1, 16))]
    assert {c.scaling.unit for c in channels} == {"HU"}
    assert CTPerfusion().dimensions == 4


def test_perfusion_channels_hold_baseline_and_enhancement() -> None:
    times = np.arange(0, 31.0)
    level = RNG.normal(35, 5, SHAPE)
    series = volume(level[..., None] + np.maximum(times - 3, 0), times)
    found = CTPerfusion(phases=8, interval=2.5).convert("ctp", {"ctp": series}, BRAIN)
    assert found.shape == (9, *SHAPE)
    np.testing.assert_allclose(found[0], level, rtol=1e-5)
    np.testing.assert_allclose(found[4], 10.0 - 3, atol=1e-4)


def test_perfusion_needs_frame_times() -> None:
    with pytest.raises(ValueError, match="without frame times"):
        CTPerfusion().convert("ctp", {"ctp": volume(np.zeros((*SHAPE, 9)))}, BRAIN)
