"""Lesion metrics by hand, by brute force and by other people's code."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_panoptic_quality
from scipy.ndimage import binary_erosion
from sklearn.metrics import f1_score

from ctp_ldm.metrics import lesion_metrics
from ctp_ldm.metrics.regions import components
from metrics.brains import BRAIN, LESION, SPACING, ellipsoid

Box = tuple[slice, slice, slice]
NOTHING = np.zeros_like(BRAIN)
UNDEFINED_WITHOUT_LESION = {
    *("lesion_dice", "hd95_mm", "sensitivity", "precision", "detected", "detected_10ml"),
    *("false_near_ml", "false_far_ml", "false_mirror_ml"),
}
VOXEL_ML = 0.03


def boxes(*where: Box, shape: tuple[int, int, int] = (6, 20, 30)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for box in where:
        mask[box] = True
    return mask


def box(z: int, h: int, w: int, size: tuple[int, int, int] = (1, 2, 2)) -> Box:
    return slice(z, z + size[0]), slice(h, h + size[1]), slice(w, w + size[2])


def measure(
    found: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float] = SPACING
) -> dict[str, float]:
    return lesion_metrics(found, reference, np.ones_like(found), spacing)


def random_masks(seed: int, share: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of many small components that partly coincide."""
    generator = np.random.default_rng(seed)
    common = generator.random((6, 20, 30)) < share
    kept, added = generator.random((2, *common.shape)) < 0.8, generator.random((2, *common.shape)) < 0.01
    return common & kept[0] | added[0], common & kept[1] | added[1]


# ------------------------------------------------------------------------------------------------------------ overlap


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_that_of_scikit_learn_and_monai(seed: int) -> None:
    found, reference = random_masks(seed)
    value = measure(found, reference)["dice"]
    assert value == pytest.approx(f1_score(reference.ravel(), found.ravel()))
    one, other = (torch.from_numpy(m)[None, None] for m in (found, reference))
    assert value == pytest.approx(float(compute_dice(one, other)))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (6.0, 1.0, 0.5)])
@pytest.mark.parametrize("seed", range(3))
def test_hd95_is_that_of_brute_force(seed: int, spacing: tuple[float, float, float]) -> None:
    """The masks reach the border of the grid, where erosion counts what is beyond as outside."""
    found, reference = random_masks(seed, share=0.5)
    surfaces = [np.argwhere(m & ~binary_erosion(m)) * spacing for m in (found, reference)]
    distances = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=2)
    expected = max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))
    assert measure(found, reference, spacing)["hd95_mm"] == pytest.approx(expected, rel=1e-5)


def test_a_lesion_one_slice_off_is_as_far_as_slices_are_thick() -> None:
    here, there = boxes(box(1, 5, 5, (1, 6, 6))), boxes(box(2, 5, 5, (1, 6, 6)))
    assert measure(here, there, (5.0, 1.0, 1.0))["hd95_mm"] == pytest.approx(5)


def test_volumes_are_in_ml() -> None:
    row = measure(boxes(box(0, 0, 0, (2, 5, 5))), boxes(box(0, 0, 0, (4, 5, 5))), (5.0, 2.0, 2.0))
    assert (row["found_ml"], row["reference_ml"]) == pytest.approx((1.0, 2.0))
    assert (row["volume_error_ml"], row["absolute_volume_error_ml"]) == pytest.approx((-1.0, 1.0))
    assert (row["shared_ml"], row["sensitivity"], row["precision"]) == pytest.approx((1.0, 0.5, 1.0))


@pytest.mark.parametrize("spacing", [(5.0, 2.0, 2.0), (6.0, 5.0, 10.0), (10.0, 8.0, 10.0)])
@pytest.mark.parametrize("seed", range(3))
def test_the_lesion_columns_are_those_of_a_few_lines_of_numpy(seed: int, spacing: tuple[float, float, float]) -> None:
    """From counted voxels and measured distances; lesions of some 2, 35 and 95 mL, of which a part is found."""
    found, reference = random_masks(seed)
    found &= np.random.default_rng(seed).random(found.shape) < 0.25
    row, ml = measure(found, reference, spacing), np.prod(spacing) / 1000
    f, r, both = int(found.sum()), int(reference.sum()), int(np.sum(found * reference))
    places = np.argwhere(reference) * spacing
    away = np.array([np.sqrt(((places - v * spacing) ** 2).sum(1)).min() for v in np.argwhere(found & ~reference)])
    columns = np.argwhere(found & ~reference)
    opposite = [reference[z, found.shape[1] - 1 - h, w] for z, h, w in columns]
    expected = {
        "reference_ml": r * ml,
        "found_ml": f * ml,
        "shared_ml": both * ml,
        "lesion_dice": 2 * both / (f + r),
        "dice": 2 * both / (f + r),
        "sensitivity": both / r,
        "precision": both / f,
        "detected": float(both >= 0.2 * r),
        "detected_10ml": float(both >= 0.2 * r) if r * ml >= 10 else math.nan,
        "false_ml": (f - both) * ml,
        "false_near_ml": np.sum(away <= 10) * ml,
        "false_far_ml": np.sum(away > 10) * ml,
        "false_mirror_ml": np.sum(opposite) * ml,
        "volume_error_ml": (f - r) * ml,
        "absolute_volume_error_ml": abs(f - r) * ml,
        "crosses_25": float(min(f, r) * ml < 25 <= max(f, r) * ml),
        "crosses_70": float(min(f, r) * ml < 70 <= max(f, r) * ml),
    }
    assert {column: row[column] for column in expected} == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("found_voxels", "share", "detected"), [(0, 0.0, 0), (9, 0.18, 0), (10, 0.2, 1), (50, 1.0, 1)])
def test_a_lesion_is_detected_by_a_fifth_of_its_volume(found_voxels: int, share: float, detected: int) -> None:
    """50 voxels, of 0.1 or 0.2 mL: below and at the 10 mL from which large lesions are counted."""
    reference, found = boxes(box(0, 0, 0, (2, 5, 5))), boxes(box(0, 8, 8, (1, 2, 2)))
    found[np.unravel_index(np.flatnonzero(reference)[:found_voxels], found.shape)] = True
    small, large = (measure(found, reference, (mm, 5.0, 4.0)) for mm in (5.0, 10.0))
    assert (small["sensitivity"], small["detected"]) == (pytest.approx(share), detected)
    assert math.isnan(small["detected_10ml"])
    assert large["detected_10ml"] == detected
    assert small["lesion_dice"] == small["dice"]


# ---------------------------------------------------------------------------------------------------- lesion by lesion


def test_lesion_wise_scores_by_hand() -> None:
    """Four lesions: one found whole, one found by half of it and more, one touched, one missed; and one invented."""
    reference = boxes(box(0, 0, 0), box(0, 0, 10, (1, 2, 4)), box(0, 10, 0, (1, 4, 4)), box(3, 0, 0))
    found = boxes(box(0, 0, 0), box(0, 0, 10, (1, 2, 2)), box(0, 10, 0, (1, 1, 1)), box(3, 15, 20))
    row = measure(found, reference)
    assert row["lesion_f1"] == pytest.approx(2 / (2 + (2 + 2) / 2))
    assert row["lesion_f1_overlap"] == pytest.approx(3 / (3 + (1 + 1) / 2))
    assert row["lesion_count_difference"] == 0


def test_one_lesion_found_in_two_pieces() -> None:
    """Two touch it, none is more than half of it: ISLES'22 has it found once, ISLES'24 not at all."""
    row = measure(boxes(box(0, 0, 0), box(0, 0, 3)), boxes(box(0, 0, 0, (1, 2, 5))))
    assert row["lesion_f1"] == 0
    assert row["lesion_f1_overlap"] == 1
    assert row["lesion_count_difference"] == 1


def test_two_lesions_found_as_one() -> None:
    row = measure(boxes(box(0, 0, 0, (1, 2, 8))), boxes(box(0, 0, 0, (1, 2, 5)), box(0, 0, 6)))
    assert row["lesion_f1"] == pytest.approx(1 / 1.5)
    assert row["lesion_f1_overlap"] == 1


def test_exactly_half_is_a_match() -> None:
    """As in panoptica; MONAI wants more than half."""
    assert measure(boxes(box(0, 0, 0)), boxes(box(0, 0, 0, (1, 2, 4))))["lesion_f1"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_lesion_f1_is_the_recognition_quality_of_monai(seed: int) -> None:
    found, reference = random_masks(seed)
    (found_labels, n), (labels, m) = components(found), components(reference)
    assert min(n, m) > 10
    one, other = torch.from_numpy(found_labels), torch.from_numpy(labels)
    expected = compute_panoptic_quality(one, other, metric_name="rq", match_iou_threshold=0.5 + 1e-9)
    exact_halves = _pairs_of_exactly_half(found_labels, labels)
    assert measure(found, reference)["lesion_f1"] == pytest.approx(
        float(expected) + 2 * exact_halves / (n + m), abs=1e-5
    )


def _pairs_of_exactly_half(one: np.ndarray, other: np.ndarray) -> int:
    pairs = [(one == i, other == j) for i in range(1, one.max() + 1) for j in range(1, other.max() + 1)]
    return sum(2 * int((a & b).sum()) == int((a | b).sum()) for a, b in pairs)


@pytest.mark.parametrize("seed", range(3))
def test_the_forgiving_f1_is_that_of_loops_over_components(seed: int) -> None:
    found, reference = random_masks(seed)
    (found_labels, n), (labels, m) = components(found), components(reference)
    hit = sum(bool(found[labels == i].any()) for i in range(1, m + 1))
    invented = sum(not reference[found_labels == i].any() for i in range(1, n + 1))
    row = measure(found, reference)
    assert row["lesion_f1_overlap"] == pytest.approx(hit / (hit + (invented + m - hit) / 2))
    assert row["lesion_count_difference"] == abs(n - m)


# ----------------------------------------------------------------------------------------------------- false lesion


def test_false_volume_by_place() -> None:
    near = ellipsoid((4, 31, 24), (18, 20, 24)) & BRAIN & ~LESION  # within 6 mm
    mirror = LESION[:, ::-1]  # the brain is in the middle of the grid
    far = ellipsoid((4, 21, 41), (7, 6, 6)) & BRAIN
    penumbra = ellipsoid((4, 27, 35), (10, 12, 20)) & BRAIN
    assert not (far & near).any()
    row = lesion_metrics(LESION | near | mirror | far, LESION, BRAIN, SPACING, penumbra)
    assert row["false_ml"] == pytest.approx((near | mirror | far).sum() * VOXEL_ML)
    assert row["false_near_ml"] == pytest.approx(near.sum() * VOXEL_ML)
    assert row["false_far_ml"] == pytest.approx((mirror | far).sum() * VOXEL_ML)
    assert row["false_mirror_ml"] == pytest.approx(mirror.sum() * VOXEL_ML)
    assert row["false_penumbra_ml"] == pytest.approx(((near | far) & penumbra).sum() * VOXEL_ML)
    assert 0 < row["false_penumbra_ml"] < row["false_ml"]
    assert math.isnan(row["false_free_ml"])
    assert math.isnan(row["any_false_free"])


def test_near_ends_at_10_mm_and_far_begins_behind() -> None:
    """Voxels of 5 mm along W, the lesion's last at 2: 3 and 4 are near, 5 is far; 1 × 1 × 5 mm are 0.005 mL."""
    reference, found = boxes(box(0, 0, 0, (1, 1, 3))), boxes(box(0, 0, 2, (1, 1, 4)))
    row = measure(found, reference, (1.0, 1.0, 5.0))
    assert (row["false_near_ml"], row["false_far_ml"]) == pytest.approx((0.010, 0.005))


def test_what_is_found_inside_the_reference_is_not_false() -> None:
    row = lesion_metrics(LESION, LESION, BRAIN, SPACING, penumbra=LESION)
    parts = [v for k, v in row.items() if k.startswith("false") and k != "false_free_ml"]
    assert parts == [0] * 5


# --------------------------------------------------------------------------------------------------------- empty masks


def test_nothing_found_where_nothing_is() -> None:
    row = lesion_metrics(NOTHING, NOTHING, BRAIN, SPACING, penumbra=BRAIN)
    assert row["dice"] == row["lesion_f1"] == row["lesion_f1_overlap"] == 1
    assert row["false_ml"] == row["false_free_ml"] == row["false_penumbra_ml"] == 0
    assert row["any_false_free"] == row["crosses_25"] == row["crosses_70"] == 0
    undefined = {k for k, v in row.items() if math.isnan(v)}
    assert undefined == UNDEFINED_WITHOUT_LESION


def test_lesion_found_where_nothing_is() -> None:
    row = lesion_metrics(LESION, NOTHING, BRAIN, SPACING)
    assert row["dice"] == row["lesion_f1"] == row["lesion_f1_overlap"] == 0
    assert row["false_free_ml"] == row["false_ml"] == row["found_ml"] > 0
    assert row["any_false_free"] == 1
    undefined = {k for k, v in row.items() if math.isnan(v)}
    assert undefined == UNDEFINED_WITHOUT_LESION | {"false_penumbra_ml"}


def test_nothing_found_where_a_lesion_is() -> None:
    row = lesion_metrics(NOTHING, LESION, BRAIN, SPACING)
    assert row["dice"] == row["lesion_f1"] == row["lesion_f1_overlap"] == row["detected"] == row["sensitivity"] == 0
    assert row["volume_error_ml"] == -row["reference_ml"] < 0
    assert row["false_ml"] == row["false_near_ml"] == row["false_far_ml"] == row["false_mirror_ml"] == 0
    undefined = {k for k, v in row.items() if math.isnan(v)}
    assert undefined == {"false_free_ml", "any_false_free", "false_penumbra_ml"}


def test_a_miss_has_the_worst_precision_and_distance() -> None:
    """The distance is that between opposite corners of the box around the brain."""
    row = lesion_metrics(NOTHING, LESION, BRAIN, SPACING)
    inside = np.argwhere(BRAIN) * SPACING
    assert row["precision"] == 0
    assert row["hd95_mm"] == pytest.approx(np.linalg.norm(inside.max(axis=0) - inside.min(axis=0)))
    assert row["hd95_mm"] > lesion_metrics(BRAIN & ~LESION, LESION, BRAIN, SPACING)["hd95_mm"]


def test_a_single_voxel_is_a_false_lesion() -> None:
    assert measure(boxes(box(0, 0, 0, (1, 1, 1))), boxes())["any_false_free"] == 1


@pytest.mark.parametrize(
    ("found", "reference", "crosses_25", "crosses_70"),
    [(24, 24, 0, 0), (24, 25, 1, 0), (69, 25, 0, 0), (70, 69, 0, 1), (10, 80, 1, 1), (70, 90, 0, 0)],
)
def test_volumes_on_both_sides_of_25_and_70_ml(found: int, reference: int, crosses_25: int, crosses_70: int) -> None:
    """Voxels of 1 mL; the threshold itself is above."""
    masks = [np.arange(100).reshape(1, 10, 10) < n for n in (found, reference)]
    row = lesion_metrics(masks[0], masks[1], masks[0], (10.0, 10.0, 10.0))
    assert (row["crosses_25"], row["crosses_70"]) == (crosses_25, crosses_70)


def test_masks_are_bool_and_of_one_shape() -> None:
    with pytest.raises(ValueError, match=r"reference is float64 of shape .*; expected bool"):
        lesion_metrics(LESION, LESION.astype(float), BRAIN, SPACING)
    with pytest.raises(ValueError, match="penumbra is bool of shape"):
        lesion_metrics(LESION, LESION, BRAIN, SPACING, penumbra=LESION[:1])


def test_all_values_are_plain_floats() -> None:
    assert {type(v) for v in lesion_metrics(LESION, LESION, BRAIN, SPACING).values()} == {float}
