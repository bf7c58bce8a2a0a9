"""What the scanners see, against the numbers that it is calibrated to."""

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from ctp_ldm.phantom import ct
from ctp_ldm.phantom.grid import oblique_grid
from ctp_ldm.phantom.haemodynamics import patient_bolus
from ctp_ldm.phantom.lesions import Lesion
from ctp_ldm.phantom.simulate import scan_mri

from .conftest import Simulated


def test_enhancement_is_calibrated(patients: list[Simulated]) -> None:
    for p in patients:
        bolus = patient_bolus(p.truth.patient)
        frames = np.stack(
            [f.copy() for f in ct.enhancement(p.truth.patient, p.truth.head, p.truth.flow, bolus)], axis=-1
        )
        healthy = p.truth.lesion.relative_flow > 0.98
        assert 8 <= frames[healthy & (p.truth.head.grey > 0.9)].mean(axis=0).max() <= 12
        assert 3 <= frames[healthy & (p.truth.head.white > 0.9)].mean(axis=0).max() <= 5.2
        assert 190 <= bolus.aif.peak_hu <= 400
        assert frames[p.truth.head.artery > 0].max() > 100
        assert frames[p.truth.head.vein > 0.5].max() > 80

        times = np.array(p.truth.patient.frame_times_s)
        before = times < p.truth.patient.arrival_s
        assert times[before].max() >= 3
        assert np.abs(frames[..., before]).max() < 0.1
        artery, vein = (frames[m > 0.5].mean(axis=0) for m in (p.truth.head.artery, p.truth.head.vein))
        assert times[artery.argmax()] < times[vein.argmax()]


def test_deficit_is_low_slow_and_late(patients: list[Simulated]) -> None:
    for p in patients:
        if p.truth.patient.kind != "territorial":
            continue
        tissue = p.truth.head.tissue > 0.9
        low, healthy = tissue & (p.truth.lesion.relative_flow < 0.35), tissue & (p.truth.lesion.relative_flow > 0.98)
        if not low.any():
            continue
        assert p.truth.flow.cbf[low].mean() < 0.5 * p.truth.flow.cbf[healthy].mean()
        assert p.truth.flow.mtt[low].mean() > 1.5 * p.truth.flow.mtt[healthy].mean()
        assert p.truth.flow.delay[low].mean() > p.truth.flow.delay[healthy].mean() + 3


def test_core_is_no_threshold_of_flow(patients: list[Simulated]) -> None:
    """Within patients low flow survives and better flow dies; between patients the limit moves."""
    limits = []
    for p in patients:
        if p.truth.patient.kind == "territorial":
            tissue, core = p.truth.head.tissue > 0.7, p.truth.lesion.core > 0.5
            limits.append(np.median(p.truth.lesion.relative_flow[core & ~binary_erosion(core)]))
            assert p.truth.lesion.relative_flow[tissue & ~core].min() < p.truth.lesion.relative_flow[core].max()
    assert np.ptp(limits) > 0.1


def test_lesion_is_tissue_of_its_side(patients: list[Simulated]) -> None:
    for p in patients:
        core = p.truth.lesion.core > 0.5
        assert np.all((p.truth.head.side[core] > 0) == (p.truth.patient.side == "right"))
        assert np.all(p.truth.head.tissue[core] > 0.5)


def test_adc_and_dwi_show_the_core(patients: list[Simulated]) -> None:
    means, brightness = [], []
    for p in patients:
        dwi, adc, _ = scan_mri(p.rng, p.truth)
        core = p.truth.lesion.core > 0.5
        healthy = (p.truth.lesion.core < 0.01) & (p.truth.head.tissue > 0.9)
        means.append(adc[core].mean())
        assert 650 < np.median(adc[healthy]) < 900
        assert adc[(p.truth.head.csf > 0.95) & ~core].mean() > 2000
        assert adc[core].mean() < adc[healthy].mean() + 50
        brightness.append(dwi[core].mean() / dwi[healthy].mean())
    assert 540 < np.mean(means) < 700
    assert np.min(brightness) > 1
    assert np.mean(brightness) > 1.2


def test_ct_has_no_step_at_the_label(patients: list[Simulated]) -> None:
    """Across the label's edge ADC falls by far, and CT, tissue for tissue, by less than half a HU."""
    for p in patients:
        core = p.truth.lesion.core > 0.5
        in_plane = np.ones((3, 3, 1), bool)
        inner, outer = core & ~binary_erosion(core, in_plane), binary_dilation(core, in_plane) & ~core
        water = ct.water_uptake(p.truth.patient, p.truth.lesion)
        step = ct.HU_PER_WATER_PERCENT * abs(water[inner].mean() - water[outer].mean())
        assert step < 0.5

        assert 0 <= ct.HU_PER_WATER_PERCENT * water.max() <= 10
        healthy = Lesion(*2 * [0 * p.truth.lesion.core], *2 * [np.ones_like(p.truth.lesion.core)])
        ill, well = (
            ct.baseline(np.random.default_rng(0), p.truth.patient, p.truth.head, m, p.truth.chronic)
            for m in (p.truth.lesion, healthy)
        )
        change = ill - well
        pure = p.truth.head.tissue > 0.9
        if (inner & pure).any() and (outer & pure).any():
            assert abs(change[inner & pure].mean() - change[outer & pure].mean()) < 0.5


@pytest.mark.parametrize("edge", [1.0, 2.0, 6.0])
def test_noise_has_its_sd_and_is_correlated(edge: float) -> None:
    grid = oblique_grid((96, 96, 8), (edge, edge, 5.0), (0, 0, 0), "RAS", np.zeros(3))
    frame = ct.noise(np.random.default_rng(0), grid, 4.0)
    assert frame.std() == pytest.approx(4.0, rel=0.05)
    neighbours = np.corrcoef(frame[1:].ravel(), frame[:-1].ravel())[0, 1]
    assert neighbours > (0.1 if edge <= 2 else 0.0)
    assert abs(np.corrcoef(frame[..., 1:].ravel(), frame[..., :-1].ravel())[0, 1]) < 0.05


def test_noise_falls_with_voxel_volume() -> None:
    thin, thick, wide = (
        oblique_grid((8, 8, 4), spacing, (0, 0, 0), "RAS", np.zeros(3)) for spacing in ((1, 1, 4), (1, 1, 8), (4, 4, 8))
    )
    assert ct.noise_sd(thin, 4.0) == pytest.approx(ct.noise_sd(thick, 4.0) * 2**0.5)
    assert ct.noise_sd(wide, 4.0) < ct.noise_sd(thick, 4.0)


def test_oblique_grid_keeps_its_centre_order_and_spacing() -> None:
    centre = np.array([3.0, -20.0, 11.0])
    for order in ("LAS", "LPS", "RAS"):
        grid = oblique_grid((10, 12, 5), (2.0, 2.0, 6.0), (5, -3, 2), order, centre)
        assert "".join(nib.aff2axcodes(grid.affine)) == order
        np.testing.assert_allclose(nib.affines.voxel_sizes(grid.affine), grid.spacing)
        np.testing.assert_allclose(grid.world().reshape(3, -1).mean(axis=1), centre, atol=1e-4)
        np.testing.assert_allclose(
            grid.world()[:, 3, 4, 2], nib.affines.apply_affine(grid.affine, [3, 4, 2]), atol=1e-4
        )
