"""Tissue curves against closed forms that do not use the tabulated convolution."""

import numpy as np
import pytest
from scipy.integrate import quad

from ctp_ldm.phantom.haemodynamics import KAPPA, ArterialInput, Bolus, relative_volume, tissue_curve

AIF = ArterialInput(arrival_s=8.0, beta_s=2.0, peak_hu=300.0, recirculation=0.15)


def test_kappa_is_the_published_constant() -> None:
    assert pytest.approx(2.4e-4, rel=0.01) == KAPPA


def test_arterial_input_has_its_height_and_recirculated_area() -> None:
    single = ArterialInput(8.0, 2.0, 300.0, recirculation=0.0)
    assert single(8.0 + 3 * 2.0) == pytest.approx(300.0)
    assert single(7.9) == 0
    t = np.arange(0, 200, 0.01)
    assert AIF(t).sum() / single(t).sum() == pytest.approx(1.15, rel=1e-4)


@pytest.mark.parametrize("mtt", [2.0, 4.0, 4.8, 12.0, 30.0])
@pytest.mark.parametrize("t", [6.0, 12.3, 20.0, 41.7])
def test_tissue_curve_is_the_convolution_integral(mtt: float, t: float) -> None:
    cbf, delay = 60.0, 1.5
    integral, _ = quad(lambda u: float(AIF(u)) * np.exp(-(t - delay - u) / mtt), 8.0, max(8.0, t - delay), limit=200)
    expected = 1.05 / (6000 * 0.73) * cbf * integral
    assert tissue_curve(Bolus(AIF, 60.0), t, cbf, mtt, delay) == pytest.approx(expected, rel=5e-3, abs=1e-3)


@pytest.mark.parametrize(("cbf", "mtt"), [(60.0, 4.0), (25.0, 4.8), (12.0, 15.0)])
def test_central_volume_theorem(cbf: float, mtt: float) -> None:
    """The area under a tissue curve is kappa * CBF * MTT times the area under the arterial input."""
    t = np.arange(0, 400, 0.1)
    curve = tissue_curve(Bolus(AIF, 400.0), t, cbf, mtt, 0.0)
    assert curve.sum() == pytest.approx(KAPPA * cbf * mtt * AIF(t).sum(), rel=5e-3)


def test_delay_only_shifts() -> None:
    bolus = Bolus(AIF, 80.0)
    t = np.arange(0, 60, 1.0)
    np.testing.assert_allclose(tissue_curve(bolus, t + 5, 60.0, 4.0, 5.0), tissue_curve(bolus, t, 60.0, 4.0, 0.0))


def test_blood_volume_rises_in_mild_and_collapses_in_severe_ischaemia() -> None:
    healthy, penumbra, core = relative_volume(np.array([1.0, 0.45, 0.1], np.float32))
    assert healthy == pytest.approx(1, abs=1e-3)
    assert 1.0 < penumbra < 1.2
    assert core < 0.5
