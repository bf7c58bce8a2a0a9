"""Image metrics of whole volumes: against `PatientMetrics`, scikit-image, torchmetrics and by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import SPEC
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from ctp_ldm.metrics import PatientMetrics, PatientVolumes, image_metrics
from ctp_ldm.metrics.similarity import WANG_WEIGHTS, ms_ssim, ms_ssim_scales, psnr
from ctp_ldm.sample import Sample
from metrics.brains import BRAIN, LESION, SHAPE, SPACING, SPANS, blurred, erased, painted, real_image, shifted, volumes

REAL = real_image()


@pytest.mark.parametrize("brain", [BRAIN, np.ones_like(BRAIN)], ids=["brain", "everywhere"])
def test_the_shared_columns_are_those_of_patient_metrics(brain: np.ndarray) -> None:
    """Also at the border of the picture, where SSIM has to reflect it."""
    synthetic = shifted(REAL)
    row = image_metrics(replace(volumes(synthetic), brain=brain), SPANS)
    metrics = PatientMetrics(SPEC)
    batch: Sample = {  # type: ignore[typeddict-item]
        "brain": torch.from_numpy(brain)[:, None].float(),
        "lesion": torch.from_numpy(LESION)[:, None].float(),
        "case": ["a"] * len(brain),
        "slice_index": torch.arange(len(brain)),
    }
    metrics.update(torch.from_numpy(synthetic), torch.from_numpy(REAL), batch)
    expected = metrics.compute()["a"]
    shared = [c for c in expected if c != "lesion_voxels"]
    assert len(shared) == 8
    for column in shared:
        single = column.startswith("ssim")  # validation computes its map in float32
        assert row[column] == pytest.approx(expected[column], rel=1e-5 if single else 1e-9), column


def test_ssim_is_that_of_scikit_image() -> None:
    synthetic = blurred(REAL)
    maps = [
        structural_similarity(
            *(image[z, 0].astype(float) for image in (synthetic, REAL)),
            data_range=4.0,
            full=True,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )[1]
        for z in range(len(REAL))
    ]
    inside = BRAIN.copy()
    inside[:, :6] = inside[:, -6:] = inside[:, :, :6] = inside[:, :, -6:] = False  # the window is whole
    patient = replace(volumes(synthetic), brain=inside)
    assert image_metrics(patient, SPANS)["ssim_dwi"] == pytest.approx(np.stack(maps)[inside].mean(), abs=1e-9)


def uneven() -> PatientVolumes:
    """One slice of 12 × 12: 4 brain voxels in a row with errors 1, −2, 3, 4; the first two are lesion."""
    real, synthetic = np.full((1, 2, 12, 12), 5.0, np.float32), np.full((1, 2, 12, 12), 5.0, np.float32)
    brain, lesion = np.zeros((1, 12, 12), bool), np.zeros((1, 12, 12), bool)
    brain[0, 5, 4:8] = True
    lesion[0, 5, 2:6] = True  # also outside the brain
    synthetic[0, :, 5, 4:8] += np.array([1.0, -2.0, 3.0, 4.0])
    synthetic[0, :, 0] = 1000.0
    return PatientVolumes("a", (5.0, 2.0, 8.0), ("dwi", "x"), ("", ""), synthetic, real, brain, lesion)


def test_errors_by_hand() -> None:
    row = image_metrics(uneven(), (4.0, 10.0))
    for channel, span in (("dwi", 4.0), ("x", 10.0)):
        assert row[f"brain_mae_{channel}"] == pytest.approx(2.5)
        assert row[f"psnr_{channel}"] == pytest.approx(10 * math.log10(span**2 / 7.5))
        assert row[f"lesion_mae_{channel}"] == pytest.approx(1.5)
        assert row[f"lesion_bias_{channel}"] == pytest.approx(-0.5)
        assert row[f"rim_mae_{channel}"] == pytest.approx(3)  # the third is 8 mm away, the fourth 16
    assert "adc620_dice" not in row
    assert not [column for column in row if column.startswith("tissue_mae")], "nothing says where fluid is"


def test_error_in_tissue_by_hand() -> None:
    """Of errors 1, −2, 3, 4 the first two are in the lesion, the last in fluid by the real ADC."""
    patient = replace(uneven(), targets=("x", "adc"))
    patient.real[0, 1, 5, 4:8] = patient.synthetic[0, 1, 5, 4:8] = (800.0, 900.0, 1499.0, 1500.0)
    row = image_metrics(patient, (4.0, 3000.0))
    assert (row["tissue_mae_x"], row["tissue_mae_adc"]) == pytest.approx((3, 0))
    patient.real[0, 1, 5, 6] = 3000.0
    assert math.isnan(image_metrics(patient, (4.0, 3000.0))["tissue_mae_x"])


def test_other_channels_have_no_ratio_and_no_adc_volume() -> None:
    row = image_metrics(replace(uneven(), targets=("flair", "t1")), (4.0, 10.0))
    assert not [column for column in row if column.startswith(("dwi_ratio", "adc620"))]


def test_patients_without_lesion() -> None:
    nothing = np.zeros_like(LESION)
    for lesion in (nothing, None):
        row = image_metrics(replace(volumes(REAL), lesion=lesion), SPANS)
        undefined = {column for column, value in row.items() if math.isnan(value)}
        per_channel = {f"{name}_{c}" for name in ("lesion_mae", "lesion_bias", "rim_mae") for c in ("dwi", "adc")}
        assert undefined == per_channel | {"dwi_ratio_real", "dwi_ratio_synthetic", "dwi_ratio_error"}


def test_spans_fit_the_targets() -> None:
    with pytest.raises(ValueError, match="shorter"):
        image_metrics(volumes(REAL), (4.0,))


# ------------------------------------------------------------------------------------------------------------- MS-SSIM


@pytest.mark.parametrize(
    ("size", "scales"),
    [
        *[((192, 224), 5), ((176, 400), 5), ((175, 400), 4), ((99, 99), 4), ((98, 99), 3)],
        *[((44, 50), 3), ((43, 50), 2), ((12, 12), 2), ((11, 30), 1), ((10, 30), 0)],
    ],
)
def test_as_many_scales_as_fit(size: tuple[int, int], scales: int) -> None:
    """Each is computable, and one more is refused by torchmetrics or has no window left."""
    assert ms_ssim_scales(size) == scales
    real = np.random.default_rng(0).random((1, *size))
    value = ms_ssim(real * 0.9, real, np.ones_like(real, dtype=bool), 1.0)
    assert math.isnan(value) if scales == 0 else 0 < value < 1
    if scales < 5:
        image = torch.from_numpy(real)[:, None]
        with pytest.raises((ValueError, RuntimeError)):
            multiscale_structural_similarity_index_measure(image, image, data_range=1.0, betas=(0.2,) * (scales + 1))


def test_five_scales_are_those_of_torchmetrics() -> None:
    """In double precision and in the channel's unit, which ours is not."""
    generator = np.random.default_rng(0)
    real = 700 + 50 * generator.normal(size=(2, 176, 180))
    synthetic = real + 30 * generator.normal(size=real.shape)
    one, other = (torch.from_numpy(image)[:, None] for image in (synthetic, real))
    expected = multiscale_structural_similarity_index_measure(one, other, data_range=3000.0)
    assert ms_ssim(synthetic, real, np.ones_like(real, dtype=bool), 3000.0) == pytest.approx(float(expected), abs=1e-6)


def test_three_scales_by_scikit_image() -> None:
    """Contrast at the finer scales, all of SSIM at the coarsest, exponents that add up to 1 (Wang 2003)."""
    generator = np.random.default_rng(0)
    real = generator.random((48, 64))
    synthetic = real + 0.1 * generator.normal(size=real.shape)
    found = ms_ssim(synthetic[None], real[None], np.ones((1, 48, 64), dtype=bool), 1.0)
    weights = np.array(WANG_WEIGHTS[:3]) / sum(WANG_WEIGHTS[:3]) * 1.0001  # what Wang's five add up to
    expected = 1.0
    for scale, weight in enumerate(weights):
        a, b = synthetic, real
        whole = similarity(a, b)
        if scale == 2:
            expected *= whole.mean() ** weight
        else:
            luminance = similarity_of_means(a, b)
            expected *= (whole / luminance)[5:-5, 5:-5].mean() ** weight
        synthetic, real = (image.reshape(len(image) // 2, 2, image.shape[1] // 2, 2).mean((1, 3)) for image in (a, b))
    # torchmetrics reflects at the border, scikit-image too but about the edge: only the coarsest scale has a border.
    assert found == pytest.approx(expected, abs=5e-3)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    options = {"data_range": 1.0, "full": True, "gaussian_weights": True, "sigma": 1.5}
    return structural_similarity(a, b, use_sample_covariance=False, **options)[1]


def similarity_of_means(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    one, other = (gaussian_filter(image, 1.5, truncate=3.5) for image in (a, b))
    return (2 * one * other + 1e-4) / (one**2 + other**2 + 1e-4)


def test_what_is_outside_the_brain_does_not_count() -> None:
    synthetic = blurred(REAL)
    noisy = synthetic + 3 * ~BRAIN[:, None]
    first, second = (image_metrics(volumes(image.astype(np.float32)), SPANS) for image in (synthetic, noisy))
    assert first["ms_ssim_dwi"] == second["ms_ssim_dwi"] < 1
    assert first["ms_ssim_scales"] == 3


def test_slices_count_by_their_brain() -> None:
    """Slices without brain count nothing; two halves of a volume are its weighted mean."""
    a, b = shifted(REAL)[:, 0], REAL[:, 0]
    brain = BRAIN.copy()
    brain[6:] = False
    parts = (slice(0, 1), slice(1, 6))
    voxels = [brain[part].sum() for part in parts]
    assert 0 < voxels[0] < voxels[1] / 5
    values = [ms_ssim(a[part], b[part], brain[part], 4.0) for part in parts]
    assert ms_ssim(a, b, brain, 4.0) == pytest.approx(np.average(values, weights=voxels))


def test_perfect_images() -> None:
    row = image_metrics(volumes(REAL), SPANS)
    for channel in ("dwi", "adc"):
        assert row[f"brain_mae_{channel}"] == row[f"lesion_bias_{channel}"] == row[f"rim_mae_{channel}"] == 0
        assert row[f"psnr_{channel}"] == psnr(0, 1) == pytest.approx(120)
        assert row[f"ssim_{channel}"] == pytest.approx(1)
        assert row[f"ms_ssim_{channel}"] == pytest.approx(1)
    assert (row["adc620_dice"], row["adc620_ml_error"], row["dwi_ratio_error"]) == (1, 0, 0)


# ---------------------------------------------------------------------------------------------------------- DWI and ADC


def test_the_ratio_is_that_of_lesion_and_other_side() -> None:
    row = image_metrics(volumes(erased(REAL)), SPANS)
    assert row["dwi_ratio_real"] == pytest.approx(2.2, abs=0.1)
    assert row["dwi_ratio_synthetic"] == pytest.approx(1.0, abs=0.1)
    assert row["dwi_ratio_error"] == pytest.approx(row["dwi_ratio_synthetic"] - row["dwi_ratio_real"])
    other_side = LESION[:, ::-1] & BRAIN & ~LESION
    assert row["dwi_ratio_real"] == pytest.approx(np.median(REAL[:, 0][LESION]) / np.median(REAL[:, 0][other_side]))


def test_a_symmetric_lesion_has_no_other_side() -> None:
    row = image_metrics(replace(volumes(REAL), lesion=LESION | LESION[:, ::-1]), SPANS)
    assert math.isnan(row["dwi_ratio_real"])
    assert not math.isnan(row["lesion_mae_dwi"])


def test_a_ratio_to_nothing_is_undefined() -> None:
    row = image_metrics(volumes(np.zeros_like(REAL)), SPANS)
    assert math.isnan(row["dwi_ratio_synthetic"])
    assert math.isnan(row["dwi_ratio_error"])
    assert not math.isnan(row["dwi_ratio_real"])


def test_low_adc_by_hand() -> None:
    synthetic = painted(REAL)
    row = image_metrics(volumes(synthetic), SPANS)
    real, made = ((image[:, 1] <= 620) & BRAIN for image in (REAL, synthetic))
    assert row["adc620_ml_error"] == pytest.approx((made.sum() - real.sum()) * np.prod(SPACING) / 1000)
    assert row["adc620_dice"] == pytest.approx(2 * (real & made).sum() / (real.sum() + made.sum()))
    assert row["adc620_ml_error"] > 5


def test_no_low_adc_on_either_side_is_agreement() -> None:
    high = np.full((len(REAL), 2, *SHAPE[1:]), 800.0, np.float32)
    row = image_metrics(replace(volumes(high), real=high), SPANS)
    assert (row["adc620_dice"], row["adc620_ml_error"]) == (1, 0)


def test_all_values_are_plain_floats() -> None:
    assert {type(v) for v in image_metrics(volumes(shifted(REAL)), SPANS).values()} == {float}
