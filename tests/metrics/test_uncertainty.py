"""Deviations that are right, wrong, useless or absent."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ctp_ldm.metrics import PatientVolumes, calibration_curve, uncertainty_metrics
from metrics.brains import BRAIN, real_image, volumes


def patient(scale: float = 1.0) -> PatientVolumes:
    """Normal errors of known deviation, which is said to be `scale` times as large."""
    generator = np.random.default_rng(0)
    real = real_image()
    deviation = generator.uniform(0.05, 1.0, real.shape)
    synthetic = real + deviation * generator.normal(size=real.shape)
    return replace(volumes(synthetic.astype(np.float32)), deviation=(scale * deviation).astype(np.float32))


def test_a_right_deviation_covers_95_percent() -> None:
    row = uncertainty_metrics(patient())
    assert row["uncertainty_coverage_dwi"] == pytest.approx(0.95, abs=0.01)
    assert row["uncertainty_coverage_adc"] == pytest.approx(0.95, abs=0.01)


def test_a_deviation_of_half_the_size_ranks_as_well_but_covers_less() -> None:
    whole, half = uncertainty_metrics(patient()), uncertainty_metrics(patient(0.5))
    assert half["uncertainty_coverage_dwi"] == pytest.approx(0.67, abs=0.02)  # within 0.98 σ
    assert half["uncertainty_rank_dwi"] == pytest.approx(whole["uncertainty_rank_dwi"])


def test_the_rank_correlation_is_that_of_ranks() -> None:
    volumes = patient()
    assert volumes.deviation is not None
    pair = volumes.deviation[:, 0][BRAIN], abs(volumes.synthetic - volumes.real)[:, 0][BRAIN]
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in pair]
    row = uncertainty_metrics(volumes)
    assert row["uncertainty_rank_dwi"] == pytest.approx(np.corrcoef(ranks[0], ranks[1])[0, 1], abs=1e-4)
    assert 0.3 < row["uncertainty_rank_dwi"] < 0.7


def test_a_deviation_that_knows_the_error_ranks_perfectly() -> None:
    known = patient()
    row = uncertainty_metrics(replace(known, deviation=abs(known.synthetic - known.real)))
    assert row["uncertainty_rank_dwi"] == pytest.approx(1)
    assert row["uncertainty_coverage_dwi"] == 1


def test_a_constant_deviation_ranks_nothing() -> None:
    known = patient()
    row = uncertainty_metrics(replace(known, deviation=np.ones_like(known.real)))
    assert math.isnan(row["uncertainty_rank_adc"])
    assert not math.isnan(row["uncertainty_coverage_adc"])


def test_the_curve_of_a_right_deviation_is_the_diagonal() -> None:
    curve = calibration_curve(patient())["dwi"]
    assert len(curve) == 10
    deviations, errors = np.array(curve).T
    assert np.all(np.diff(deviations) > 0)
    assert errors == pytest.approx(deviations, rel=0.15)
    half = np.array(calibration_curve(patient(0.5))["dwi"])
    assert half == pytest.approx(np.stack([deviations / 2, errors], axis=1), rel=1e-3)


def test_a_curve_by_hand() -> None:
    brain = np.zeros((1, 1, 4), bool)
    brain[..., :3] = True
    deviation = np.array([3.0, 1.0, 1.0, 9.0], np.float32).reshape(1, 1, 1, 4)
    error = np.array([4.0, 3.0, -4.0, 9.0], np.float32).reshape(1, 1, 1, 4)
    small = PatientVolumes("a", (1, 1, 1), ("x",), ("",), error, np.zeros_like(error), brain, deviation=deviation)
    assert np.array(calibration_curve(small, bins=2)["x"]) == pytest.approx(np.array([[1, math.sqrt(12.5)], [3, 4]]))
    assert len(calibration_curve(small)["x"]) == 3


def test_one_sample_has_no_uncertainty() -> None:
    assert uncertainty_metrics(volumes(real_image())) == {}
    assert calibration_curve(volumes(real_image())) == {}
