"""Images that are something else, known by their fluid: in hand-made, simulated and real brains."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ctp_ldm.data import ApparentDiffusion, CTPerfusion, RelativeDWI
from ctp_ldm.data.brain import foreground_mask
from ctp_ldm.data.faults import DataFault
from ctp_ldm.data.fluid import require_fluid_bright, require_fluid_dark, require_water
from ctp_ldm.data.volumes import read_volume

from . import trees
from .conftest import CASES
from .files import isles_file, volume


class Images(NamedTuple):
    """dwi of any gain, adc in 10⁻⁶ mm²/s, brain: (X, Y, Z)."""

    dwi: np.ndarray
    adc: np.ndarray
    brain: np.ndarray


@pytest.fixture(params=["hand-made", "real", *range(1, CASES + 1)], ids=str)
def images(request: pytest.FixtureRequest) -> Images:
    """A brain with its diffusion MRI."""
    if request.param == "hand-made":
        made = trees.patient(1)
        grey = np.where(made["adc"] > 800, 1.2, 1.0)
        return Images(300 * grey * np.exp(-made["adc"] / 1000) * made["brain"], made["adc"], made["brain"])
    if request.param == "real":
        folder = request.getfixturevalue("shared_data") / "isles22/rawdata/sub-strokecase0009/ses-0001"
        dwi, adc = (read_volume(folder / f"sub-strokecase0009_ses-0001_{r}.nii.gz").values for r in ("dwi", "adc"))
        return Images(dwi, adc * 1000, foreground_mask(dwi))
    tree: Path = request.getfixturevalue("shared_tree")
    dwi, adc = (read_volume(isles_file(tree, request.param, role)).values for role in ("dwi", "adc"))
    return Images(dwi, adc, CTPerfusion().find_brain(read_volume(isles_file(tree, request.param, "ctp"), 4)))


def _adc(values: np.ndarray, brain: np.ndarray) -> np.ndarray:
    return ApparentDiffusion().convert(volume(values, name="adc.nii.gz"), brain, {})


def _dwi(values: np.ndarray, images: Images) -> np.ndarray:
    companions = {"adc": images.adc[None]}
    return RelativeDWI().convert(volume(values, name="dwi.nii.gz"), images.brain, companions)


def test_adc_and_dwi_are_taken_as_they_are(images: Images) -> None:
    for unit in (1.0, 1e-3, 1e-6):
        np.testing.assert_allclose(_adc(images.adc * unit, images.brain)[0], images.adc.clip(0), rtol=1e-4, atol=1e-3)
    assert _dwi(images.dwi, images).max() > 0


@pytest.mark.parametrize("level", [600.0, 800.0, 1000.0])
@pytest.mark.parametrize("unit", [1.0, 1e-3])
def test_a_dwi_is_no_adc_however_plausible_its_median(images: Images, level: float, unit: float) -> None:
    median = np.median(images.dwi[images.brain & (images.dwi > 0)])
    with pytest.raises(DataFault, match=r"adc\.nii\.gz reaches down to .* it is a DWI or an exponential ADC"):
        _adc(images.dwi / median * level * unit, images.brain)


@pytest.mark.parametrize("b", [0.5, 0.7, 1.0])
def test_an_exponential_adc_is_refused_by_its_fluid(images: Images, b: float) -> None:
    exponential = np.where(images.adc > 0, np.exp(-images.adc / 1000 * b), 0)
    with pytest.raises(DataFault, match=r"adc\.nii\.gz reaches down to .*exponential"):
        _adc(exponential, images.brain)
    with pytest.raises(DataFault, match=r"adc\.nii\.gz reaches down to .*exponential"):
        require_fluid_bright(volume(exponential, name="adc.nii.gz"), images.brain)


@pytest.mark.parametrize("factor", [0.3, 0.5, 2.0, 3.0, 4.0])
def test_an_adc_of_another_scale_is_refused(images: Images, factor: float) -> None:
    with pytest.raises(DataFault, match=r"adc\.nii\.gz has (a median of .* expected 500–1400|an ADC of .* in fluid)"):
        _adc(images.adc * factor, images.brain)


@pytest.mark.parametrize("images", ["hand-made", "real"], indirect=True)
def test_a_stated_unit_does_not_let_a_wrong_scale_pass(images: Images) -> None:
    """Where voxels are small enough for pure fluid."""
    for factor in (0.5, 2.0):
        with pytest.raises(DataFault, match=r"in fluid and .* expected 1700–3700 and about 800: its scale"):
            ApparentDiffusion("1e-6 mm2/s").convert(volume(images.adc * factor), images.brain, {})


def _weighted(b: float) -> Callable[[Images], np.ndarray]:
    """The DWI at another b, ms/µm²."""
    return lambda images: images.dwi * np.exp((1 - b) * images.adc.clip(0, 3500) / 1000)


NO_DWI: dict[str, Callable[[Images], np.ndarray]] = {
    "b0": _weighted(0.0),
    "adc": lambda images: images.adc,
    "adc-1e-3": lambda images: images.adc / 1000,
}


@pytest.mark.parametrize("what", NO_DWI)
def test_what_shows_fluid_bright_is_no_dwi(images: Images, what: str) -> None:
    with pytest.raises(DataFault, match=r"dwi\.nii\.gz is .* times as bright in fluid .* it is the b = 0 image"):
        _dwi(NO_DWI[what](images), images)


@pytest.mark.parametrize("b", [0.8, 1.0, 1.5, 2.5])
def test_other_weightings_pass(images: Images, b: float) -> None:
    require_fluid_dark(volume(_weighted(b)(images)), images.adc, images.brain)


def test_where_no_fluid_is_seen_nothing_is_said_of_it() -> None:
    brain = np.ones((9, 9, 3), bool)
    adc = np.random.default_rng(0).normal(800, 50, brain.shape)
    adc[:4, :4] = 450  # a large infarct would look like a long lower tail
    adc[8, 8, 0:3] = 2900
    require_fluid_bright(volume(adc), brain)
    require_water(volume(adc), adc, brain)
    adc[8, 8, 0:3] = 800
    require_fluid_dark(volume(np.exp(-adc)), adc, brain)
    require_fluid_bright(volume(0 * adc), brain)
    require_water(volume(0 * adc), 0 * adc, brain)


def test_what_lies_outside_the_image_has_no_say_in_its_unit(images: Images) -> None:
    """A CT's brain mask is larger than a stripped MRI."""
    holes = np.where(np.random.default_rng(0).random(images.adc.shape) < 0.4, 0, images.adc)
    np.testing.assert_allclose(_adc(holes / 1000, images.brain)[0], holes.clip(0), rtol=1e-4, atol=1e-3)
