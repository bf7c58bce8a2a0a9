"""From a file's values to physical ones, whatever unit or scale the file has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.phases import find_bolus
from ctp_ldm.data.quantities import (
    CBF,
    CBV,
    MTT,
    ApparentDiffusion,
    CTPerfusion,
    Intensity,
    NonContrastCT,
    PerfusionMap,
    PublishedCTPerfusion,
    RelativeDWI,
    RobustRange,
    Tmax,
)
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
    found = ApparentDiffusion().convert(volume(ADC * unit), BRAIN, {})
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, ADC[None], rtol=1e-5)


@pytest.mark.parametrize("factor", [0.1, 10.0, 1e-2, 1e-4, 1e-5, 1e-8, 1e3, 0.0, -1.0])
def test_adc_of_an_ambiguous_unit_is_refused(factor: float) -> None:
    with pytest.raises(DataFault, match=r"adc\.nii\.gz has a median of"):
        ApparentDiffusion().convert(volume(ADC * factor, name="adc.nii.gz"), BRAIN, {})


def test_small_negative_adc_and_dwi_of_interpolation_become_zero() -> None:
    adc, dwi = ADC.copy(), DWI.copy()
    adc[0, 0, 0], dwi[0, 0, 0] = -12.0, -3.0
    physical = ApparentDiffusion().convert(volume(adc), BRAIN, {})
    assert physical.min() == 0
    assert RelativeDWI().convert(volume(dwi), BRAIN, {"adc": physical}).min() == 0


@given(gain=st.floats(1e-4, 1e6))
def test_the_scanners_gain_does_not_reach_relative_dwi(gain: float) -> None:
    def relative(factor: float) -> np.ndarray:
        return RelativeDWI().convert(volume(DWI * factor), BRAIN, {"adc": ADC[None]})

    np.testing.assert_allclose(relative(gain), relative(1.0), rtol=1e-5)


def test_normal_tissue_is_one_however_large_the_infarct() -> None:
    adc, dwi = ADC.copy(), DWI.copy()
    adc[1:6, 1:8], dwi[1:6, 1:8] = 450.0, 900.0  # most of the brain
    relative = RelativeDWI().convert(volume(dwi), BRAIN, {"adc": adc[None]})[0]
    normal = BRAIN & (adc >= 650) & (adc <= 950)
    assert np.median(relative[normal]) == pytest.approx(1.0, abs=1e-5)
    assert relative[3, 3, 2] == pytest.approx(900 / np.median(dwi[normal]), rel=1e-5)


@pytest.mark.parametrize(
    ("quantity", "companions"),
    [(RelativeDWI(), {}), (RelativeDWI(None), {"adc": ADC[None]}), (RelativeDWI(), {"adc": 0 * ADC[None]})],
    ids=["no-file", "not-to-be-looked-at", "no-normal-tissue"],
)
def test_without_adc_the_whole_brain_is_the_reference(quantity: RelativeDWI, companions: dict[str, np.ndarray]) -> None:
    relative = quantity.convert(volume(DWI), BRAIN, companions)[0]
    np.testing.assert_allclose(relative, DWI / np.median(DWI[BRAIN]), rtol=1e-5)


@pytest.mark.parametrize("dwi", [np.zeros(SHAPE), -DWI])
def test_dwi_without_signal_is_refused(dwi: np.ndarray) -> None:
    with pytest.raises(DataFault, match=r"dwi\.nii\.gz has a median of .* expected a positive signal"):
        RelativeDWI().convert(volume(dwi, name="dwi.nii.gz"), BRAIN, {"adc": ADC[None]})


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (37.0, -500.0), (1e-3, 2.0)])
def test_robust_range_is_the_brains_quantiles_whatever_gain_and_offset(gain: float, offset: float) -> None:
    values = RNG.permutation(BRAIN.sum()) / (BRAIN.sum() - 1.0)
    image = np.full(SHAPE, -1e3)  # what lies outside the brain has no say
    image[BRAIN] = values * gain + offset
    found = RobustRange(0.05, 0.95).convert(volume(image), BRAIN, {})[0]
    np.testing.assert_allclose(found[BRAIN], (values - 0.05) / 0.9, atol=2e-3)


def test_robust_range_refuses_a_constant_image() -> None:
    with pytest.raises(DataFault, match=r"t1\.nii\.gz is constant inside the brain \(7\)"):
        RobustRange().convert(volume(np.full(SHAPE, 7.0), name="t1.nii.gz"), BRAIN, {})


def test_intensity_keeps_values_and_names_its_unit() -> None:
    quantity = Intensity(low=0.0, high=12.0, physical_unit="s")
    np.testing.assert_array_equal(quantity.convert(volume(DWI), BRAIN, {}), np.float32(DWI)[None])
    (channel,) = quantity.channels("tmax")
    assert (channel.name, channel.scaling) == ("tmax", Linear("s", 0.0, 12.0))


def test_perfusion_channels_are_the_baseline_and_numbered_phases() -> None:
    channels = CTPerfusion(phases=15).channels("ctp")
    assert [c.name for c in channels] == ["ctp_baseline", *(f"ctp_{i:02d}" for i in range(1, 16))]
    assert {c.scaling.unit for c in channels} == {"HU"}
    assert CTPerfusion().dimensions == 4


TIMES = np.arange(0, 46.0)
# Flat until 10 s, up by 2 HU/s until 20 s, down by 1 HU/s until 40 s.
CURVE = np.interp(TIMES, [10, 20, 40], [0, 20, 0])
LEVEL, GAIN = RNG.normal(35, 5, SHAPE), RNG.uniform(0.2, 3.0, SHAPE)


def test_perfusion_channels_hold_baseline_and_enhancement() -> None:
    series = volume(LEVEL[..., None] + GAIN[..., None] * CURVE, TIMES + 37.5)
    found = CTPerfusion(phases=8, interval=2.5).convert(series, BRAIN, {})
    arrival = find_bolus(LEVEL[BRAIN].mean() + GAIN[BRAIN].mean() * CURVE, TIMES).arrival
    assert found.shape == (9, *SHAPE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], LEVEL, rtol=1e-5)
    for i in range(8):
        around = np.interp(arrival + 2.5 * i + np.linspace(-1.25, 1.25, 2001), TIMES, CURVE)
        np.testing.assert_allclose(found[1 + i], GAIN * around.mean(), atol=1e-2)


def test_the_published_source_is_the_frames_of_a_series_of_just_so_many() -> None:
    """Without a bolus too: what the published system was given is not looked into."""
    frames = LEVEL[..., None] + GAIN[..., None] * np.arange(15.0)
    found = PublishedCTPerfusion().convert(volume(frames, np.arange(15.0)), BRAIN, {})
    np.testing.assert_array_equal(found, np.moveaxis(np.float32(frames), -1, 0))
    channels = PublishedCTPerfusion().channels("ctp")
    assert [c.name for c in channels] == [f"ctp_{i:02d}" for i in range(1, 16)]
    assert {c.scaling for c in channels} == {Linear("HU", 0.0, 200.0)}


def test_the_published_source_of_another_series_is_the_hu_of_the_phases() -> None:
    series = volume(LEVEL[..., None] + GAIN[..., None] * CURVE, TIMES)
    before, *enhancement = CTPerfusion().convert(series, BRAIN, {})
    found = PublishedCTPerfusion().convert(series, BRAIN, {})
    assert found.shape == (15, *SHAPE)
    np.testing.assert_allclose(found, before + np.stack(enhancement), rtol=1e-6)


def test_perfusion_needs_frame_times() -> None:
    with pytest.raises(ValueError, match="without frame times"):
        CTPerfusion().convert(volume(np.zeros((*SHAPE, 9))), BRAIN, {})


def test_a_series_without_bolus_is_refused_with_its_file() -> None:
    still = volume(np.repeat(LEVEL[..., None], len(TIMES), axis=-1), TIMES, "ctp.nii.gz")
    with pytest.raises(DataFault, match=r"ctp\.nii\.gz: no bolus is seen"):
        CTPerfusion().convert(still, BRAIN, {})


@pytest.mark.parametrize("level", [-20.0, 9.0, 81.0, 1059.0])
def test_ct_that_is_no_brain_in_hu_is_refused(level: float) -> None:
    still = volume(np.full(SHAPE, level), name="ncct.nii.gz")
    series = volume(level + np.ones(SHAPE)[..., None] * CURVE, TIMES, "ctp.nii.gz")
    for quantity, scan in ((NonContrastCT(), still), (CTPerfusion(), series)):
        with pytest.raises(DataFault, match=rf"{scan.path} has a median of {level:.4g} in the brain .* 10–80 HU"):
            quantity.convert(scan, BRAIN, {})


def test_ct_without_contrast_keeps_its_values() -> None:
    found = NonContrastCT().convert(volume(LEVEL), BRAIN, {})
    np.testing.assert_array_equal(found, np.float32(LEVEL)[None])
    assert NonContrastCT().channels("ncct")[0].scaling == CTPerfusion().channels("ctp")[0].scaling


def _perfusion(grey: float, white: float) -> np.ndarray:
    values = np.where(np.arange(SHAPE[1])[:, None] < 4, grey, white) + RNG.normal(0, 0.02 * white, SHAPE)
    values[5, 1:4, 1] = 0.0  # no flow in the core
    return values


@pytest.mark.parametrize(
    ("quantity", "grey", "white", "factors"),
    [
        (CBF(), 60.0, 25.0, {"mL/100 g/min": 1.0, "mL/g/min": 0.01}),
        (CBV(), 4.0, 2.0, {"mL/100 g": 1.0, "mL/g": 0.01}),
        (MTT(), 4.0, 4.8, {"s": 1.0, "ms": 1000.0}),
        (Tmax(), 1.0, 9.0, {"s": 1.0, "ms": 1000.0}),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, PerfusionMap) else "",
)
def test_a_perfusion_map_comes_out_the_same_from_every_unit(
    quantity: PerfusionMap, grey: float, white: float, factors: dict[str, float]
) -> None:
    values = _perfusion(grey, white)
    values[0, 0, 0] = -0.5
    for unit, factor in factors.items():
        file = volume(values * factor)
        found = quantity.convert(file, BRAIN, {})
        np.testing.assert_allclose(found, values.clip(0)[None], rtol=1e-5)
        assert quantity.describe(file, BRAIN, found)["unit"] == unit
    (channel,) = quantity.channels("map")
    assert channel.scaling == Linear(next(iter(factors)), 0.0, quantity.ceiling)


@pytest.mark.parametrize("factor", [1e-5, 1e5, 0.0, -1.0])
@pytest.mark.parametrize("quantity", [CBF(), CBV(), MTT(), Tmax()], ids=lambda q: type(q).__name__)
def test_a_perfusion_map_of_no_known_unit_is_refused(quantity: PerfusionMap, factor: float) -> None:
    with pytest.raises(DataFault, match=r"map\.nii\.gz has a (median|95% quantile) of .* expected .* in "):
        quantity.convert(volume(_perfusion(4.0, 3.0) * factor, name="map.nii.gz"), BRAIN, {})
