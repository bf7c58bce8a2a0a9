"""Image metrics of patients against hand-computed volumes and scikit-image."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from samples import SIZE, SPEC, brain_mask, random_batch, select
from skimage.metrics import structural_similarity

from ctp_ldm.metrics import PatientMetrics, balanced_mae, mean_over_patients
from ctp_ldm.metrics.patients import PatientTable
from ctp_ldm.sample import Sample


def physical(seed: int, slices: int = 4) -> torch.Tensor:
    """(B, 2, H, W) with DWI in 0–4 and ADC in 0–3000, smooth enough for SSIM to mean something."""
    noise = torch.rand(slices, 2, *SIZE, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    return smooth * torch.tensor([4.0, 3000.0]).view(1, 2, 1, 1)


def measure(*updates: tuple[torch.Tensor, torch.Tensor, Sample]) -> PatientTable:
    metrics = PatientMetrics(SPEC)
    for update in updates:
        metrics.update(*update)
    return metrics.compute()


def uneven_volume() -> tuple[torch.Tensor, torch.Tensor, Sample]:
    """Two slices: 3 brain voxels with errors 1, 2, 3 of which the first is lesion; 1 brain voxel with error 10."""
    batch = random_batch(2)
    for key in ("brain", "lesion"):
        batch[key] = torch.zeros(2, 1, *SIZE)
    batch["brain"][0, 0, 5, 5:8] = 1
    batch["brain"][1, 0, 8, 8] = 1
    batch["lesion"][0, 0, 5, 5] = 1
    batch["lesion"][0, 0, 0, 0] = 1  # outside the brain
    target = torch.zeros(2, 2, *SIZE)
    prediction = torch.full_like(target, 1000.0)  # outside the brain nothing counts
    prediction[0, :, 5, 5:8] = torch.tensor([1.0, -2.0, 3.0])
    prediction[1, :, 8, 8] = 10.0
    return prediction, target, batch


def test_errors_are_sums_over_the_volume_not_means_of_slices() -> None:
    row = measure(uneven_volume())["case"]
    for channel, span in (("dwi", 4.0), ("adc", 3000.0)):
        assert row[f"brain_mae_{channel}"] == pytest.approx((1 + 2 + 3 + 10) / 4)
        mean_square = (1 + 4 + 9 + 100) / 4
        assert row[f"psnr_{channel}"] == pytest.approx(10 * math.log10(span**2 / mean_square))


def test_lesion_error_counts_lesion_voxels_in_the_brain() -> None:
    row = measure(uneven_volume())["case"]
    assert row["lesion_mae_dwi"] == pytest.approx(1)
    assert row["lesion_voxels"] == 1


def test_ssim_is_that_of_scikit_image_over_brain_voxels() -> None:
    """Six voxels from the border, where the window is whole."""
    batch = random_batch()
    batch["brain"] = torch.zeros(4, 1, *SIZE)
    batch["brain"][:, :, 6:-6, 6:-6] = 1
    real, synthetic = physical(0), physical(1)
    row = measure((synthetic, real, batch))["case"]
    for i, channel in enumerate(SPEC.target):
        maps = [
            structural_similarity(
                a.double().numpy(),
                b.double().numpy(),
                data_range=channel.scaling.span,
                full=True,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )[1]
            for a, b in zip(synthetic[:, i], real[:, i], strict=True)
        ]
        expected = np.mean([m[6:-6, 6:-6] for m in maps])
        assert row[f"ssim_{channel.name}"] == pytest.approx(expected, abs=1e-5)


def test_a_perfect_image_has_no_error_and_120_db() -> None:
    real = physical(0)
    row = measure((real, real, random_batch()))["case"]
    for channel in ("dwi", "adc"):
        assert row[f"brain_mae_{channel}"] == row[f"lesion_mae_{channel}"] == 0
        assert row[f"psnr_{channel}"] == pytest.approx(120)
        assert row[f"ssim_{channel}"] == pytest.approx(1)


def test_an_image_with_constant_error_has_the_psnr_of_that_error() -> None:
    real = physical(0)
    row = measure((real + 0.04, real, random_batch()))["case"]
    assert row["psnr_dwi"] == pytest.approx(40, abs=1e-3)


@pytest.mark.parametrize("absent", [True, False])
def test_patients_without_lesion_have_no_lesion_error(absent: bool) -> None:
    batch: Any = random_batch(lesion=False)
    if absent:
        del batch["lesion"]
    row = measure((physical(1), physical(0), batch))["case"]
    assert math.isnan(row["lesion_mae_dwi"])
    assert math.isnan(row["lesion_mae_adc"])
    assert row["lesion_voxels"] == 0
    assert row["brain_mae_dwi"] > 0


@pytest.fixture
def two_patients() -> tuple[torch.Tensor, torch.Tensor, Sample]:
    batch = random_batch(6)
    batch["case"] = ["b", "a", "b", "a", "b", "a"]
    batch["slice_index"] = torch.tensor([0, 0, 1, 1, 2, 2])
    batch["lesion"][1::2] = 0
    return physical(1, 6), physical(0, 6), batch


def pick(
    update: tuple[torch.Tensor, torch.Tensor, Sample], slices: list[int]
) -> tuple[torch.Tensor, torch.Tensor, Sample]:
    return update[0][slices], update[1][slices], select(update[2], slices)


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3, 4, 5]], [[5, 3, 1], [4, 2, 0]], [[i] for i in (2, 5, 0, 4, 1, 3)]])
def test_order_and_batching_of_slices_do_not_matter(two_patients: Any, batches: list[list[int]]) -> None:
    expected = {
        "a": measure(pick(two_patients, [1, 3, 5]))["a"],
        "b": measure(pick(two_patients, [0, 2, 4]))["b"],
    }
    found = measure(*(pick(two_patients, slices) for slices in batches))
    assert list(found) == ["a", "b"]
    for case in expected:
        assert found[case] == pytest.approx(expected[case], rel=1e-9, nan_ok=True)


def test_a_slice_that_comes_twice_counts_once(two_patients: Any) -> None:
    once = measure(two_patients)
    twice = measure(two_patients, pick(two_patients, [0, 0, 3]))
    for case in once:
        assert twice[case] == pytest.approx(once[case], nan_ok=True)


def test_reset_forgets_the_patients(two_patients: Any) -> None:
    metrics = PatientMetrics(SPEC)
    metrics.update(*two_patients)
    metrics.reset()
    metrics.update(*pick(two_patients, [1]))
    assert list(metrics.compute()) == ["a"]


def test_names_of_patients_survive_in_any_script() -> None:
    batch = random_batch(case="sub-žluť-患者")
    assert list(measure((physical(1), physical(0), batch))) == ["sub-žluť-患者"]


def test_a_name_that_does_not_fit_is_refused_instead_of_cut() -> None:
    with pytest.raises(ValueError, match="longer than 100 bytes"):
        measure((physical(1), physical(0), random_batch(case="x" * 101)))


def test_the_brain_of_the_samples_leaves_a_margin_and_holds_the_lesion() -> None:
    """What the tests above rely on."""
    brain, lesion = brain_mask(), random_batch()["lesion"][0, 0]
    assert brain[0].sum() == brain[:, 0].sum() == 0
    assert (lesion * (1 - brain)).sum() == 0


def row(dwi: float, adc: float, lesion_dwi: float, lesion_adc: float) -> dict[str, float]:
    errors = {"brain_mae_dwi": dwi, "brain_mae_adc": adc, "lesion_mae_dwi": lesion_dwi, "lesion_mae_adc": lesion_adc}
    return {**errors, "lesion_voxels": 0.0}


def test_balanced_mae_by_hand() -> None:
    """Relative to the spans 4 and 3000; the second patient has no lesion and counts with the brain alone."""
    patients = {"a": row(0.4, 300.0, 1.2, 600.0), "b": row(0.8, 150.0, math.nan, math.nan)}
    expected = ((0.1 + 0.3) / 2 + (0.1 + 0.2) / 2 + 0.2 + 0.05) / 4
    assert balanced_mae(patients, SPEC) == pytest.approx(expected)


def test_mean_over_patients_leaves_out_those_without_the_metric() -> None:
    patients = {"a": {"x": 1.0, "y": 5.0, "z": math.nan}, "b": {"x": 3.0, "y": math.nan, "z": math.nan}}
    assert mean_over_patients(patients) == {"x": 2.0, "y": 5.0}
