"""Lesions compared with their mirror sites: where the mask lies right, and flipped or shifted ones."""

from pathlib import Path

import numpy as np
import pytest

from ctp_ldm.data import CaseFolders, CTPToDiffusionMRI, Findings, Settings, check
from ctp_ldm.data.mirror import against_mirror, is_elsewhere

from . import trees

SIZES = np.array(trees.SPACING)


def _ratios(lesion: np.ndarray, seed: int = 1, roll: int = 0) -> dict[str, float]:
    images = trees.patient(seed)
    adc, dwi, brain, lesion = (
        np.roll(v, roll, axis=0) for v in (images["adc"], images["dwi"], images["brain"], lesion)
    )
    return against_mirror({"adc": adc, "dwi": dwi}, adc, lesion, brain, SIZES)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("roll", [-1, 0, 2], ids=lambda r: f"off-centre-{r}")
def test_an_infarct_is_darker_in_adc_and_brighter_in_dwi(seed: int, roll: int) -> None:
    ratios = _ratios(trees.patient(seed)["lesion"], seed, roll)
    assert ratios["adc"] == pytest.approx(420 / 770, abs=0.07)
    assert ratios["dwi"] == pytest.approx(2.2 / 1.05, abs=0.25)
    assert not is_elsewhere(ratios["adc"], ratios["dwi"])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_flipped_mask_lies_on_the_brighter_adc(seed: int) -> None:
    ratios = _ratios(trees.patient(seed)["lesion"][::-1], seed)
    assert ratios["adc"] > 1.5
    assert ratios["dwi"] < 0.6
    assert is_elsewhere(ratios["adc"], ratios["dwi"])


def test_too_little_to_compare_is_not_compared() -> None:
    lesion, brain = trees.patient(1)["lesion"], trees.patient(1)["brain"]
    small = np.zeros_like(lesion)
    small[tuple(np.argwhere(lesion)[:6].T)] = True  # 2.6 mL
    assert _ratios(small) == {}
    assert _ratios(0 * lesion > 0) == {}
    assert _ratios(lesion | lesion[::-1]) == {}  # both sides
    assert _ratios(lesion & ~brain) == {}


@pytest.mark.parametrize(
    ("adc", "dwi", "odd"),
    [(0.55, 2.0, False), (0.9, 1.1, False), (1.1, 1.5, False), (0.9, 0.9, False), (1.8, 0.5, True), (1.0, 1.0, True)],
)
def test_a_site_is_odd_where_neither_image_shows_an_infarct(adc: float, dwi: float, odd: bool) -> None:
    """Late infarcts are bright in ADC, and still in DWI; some are faint in one of the two."""
    assert is_elsewhere(adc, dwi) == odd


# -------------------------------------------------------------------------------------------------- as check says it


def _checked(root: Path, lesion: np.ndarray) -> Findings:
    images = {**trees.patient(1), "lesion": lesion}
    trees.write_case(trees.case_folder(root, "p1"), images, trees.Encoding(interval=1.0))
    settings = Settings(spacing=6.0, size=(32, 40))
    return check(root, CTPToDiffusionMRI().task, CaseFolders(), settings, workers=1).cases["p1"]


def test_check_says_the_ratios_and_remarks_on_nothing_where_the_mask_is_right(tmp_path: Path) -> None:
    found = _checked(tmp_path, trees.patient(1)["lesion"])
    assert (found.faults, found.remarks) == ([], [])
    assert found.facts["mirror"]["adc"] < 0.7 < 1.5 < found.facts["mirror"]["dwi"]


def test_check_remarks_on_a_flipped_or_shifted_mask_and_lets_it_pass(tmp_path: Path) -> None:
    lesion = trees.patient(1)["lesion"]
    for name, odd in (("flipped", lesion[::-1]), ("shifted", np.roll(lesion[::-1], 2, axis=1))):
        found = _checked(tmp_path / name, odd & trees.patient(1)["brain"])
        assert found.faults == []
        (remark,) = found.remarks
        assert "of the mirror site: a flipped or shifted mask?" in remark


def test_an_empty_mask_is_not_compared(tmp_path: Path) -> None:
    found = _checked(tmp_path, np.zeros_like(trees.patient(1)["lesion"]))
    assert (found.faults, found.remarks) == ([], [])
    assert "mirror" not in found.facts
