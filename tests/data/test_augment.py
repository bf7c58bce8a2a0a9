"""The published augmentation is MONAI's, moves all of a slice's arrays together and depends on nothing but the draw."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from monai.transforms import Affine, Flip
from scipy import ndimage, stats
from torch import Tensor

from ctp_ldm.data.augment import Flips, PublishedAugmentation, flip, move, move_slice
from ctp_ldm.data.sampling import Draw

SPACING, SIZE = 4.0, (96, 112)
BACKGROUND = -0.5
AUGMENTATION = PublishedAugmentation(SPACING, SIZE, seed=5)
SLICES = range(12)


def _disc(centre: tuple[float, float], radius: float) -> np.ndarray:
    x, y = np.ogrid[: SIZE[0], : SIZE[1]]
    return np.hypot(x - centre[0], y - centre[1]) < radius


BRAIN, LESION = _disc((48, 56), 26), _disc((38, 66), 9)


def _batch() -> dict[str, Tensor]:
    """Twelve times the same slice: source 0 shows the brain, source 1 the lesion, target noise in the brain."""
    source = np.stack([np.where(BRAIN, 0.9, BACKGROUND), np.where(LESION, 1.0, -1.0)])
    noise = np.where(BRAIN, np.random.default_rng(0).uniform(-1, 1, SIZE), -1.0)[None]
    arrays = {"source": source, "target": noise, "brain": BRAIN[None], "lesion": LESION[None]}
    return {key: torch.tensor(np.stack([value] * len(SLICES)), dtype=torch.float32) for key, value in arrays.items()}


@pytest.fixture(scope="module")
def moved() -> dict[str, Tensor]:
    return move(_batch(), torch.stack([AUGMENTATION(Draw(i, 0, 0)) for i in SLICES]))


class Parameters(NamedTuple):
    """flips: ±1 on H and W; angle in radians; shift in voxels and scale on H and W."""

    flips: np.ndarray
    angle: float
    shift: np.ndarray
    scale: np.ndarray


def _parameters(theta: Tensor) -> Parameters:
    """Undo flips · rotation · (scale · x + shift), and the order and units of `affine_grid`: x, y; 2 is the picture."""
    size = np.array(SIZE)
    half = theta.double().numpy()[::-1][:, [1, 0, 2]]
    matrix, offset = half[:, :2] * size[:, None] / size, half[:, 2] * size / 2
    flips = np.sign(np.diag(matrix))
    turned = flips[:, None] * matrix
    scale = np.linalg.norm(turned, axis=0)
    rotation = turned / scale
    return Parameters(flips, float(np.arctan2(rotation[1, 0], rotation[0, 0])), rotation.T @ (flips * offset), scale)


# ---------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("index", SLICES)
def test_the_picture_is_that_of_monais_flip_and_affine(moved: dict[str, Tensor], index: int) -> None:
    drawn = _parameters(AUGMENTATION(Draw(index, 0, 0)))
    flip = Flip([int(axis) for axis in np.flatnonzero(drawn.flips < 0)])
    affine = Affine(
        rotate_params=drawn.angle,
        translate_params=drawn.shift.tolist(),
        scale_params=drawn.scale.tolist(),
        padding_mode="border",
        image_only=True,
    )
    for key, values in _batch().items():
        expected = affine(flip(values[index]) if (drawn.flips < 0).any() else values[index])
        found = moved[key][index]
        if key in ("brain", "lesion"):
            unsure = (expected - 0.5).abs() < 1e-4
            assert torch.equal(found[~unsure] > 0, expected[~unsure] > 0.5)
        else:
            torch.testing.assert_close(found, expected.as_tensor(), atol=1e-4, rtol=0)


def test_shapes_types_and_ranges_stay(moved: dict[str, Tensor]) -> None:
    for key, before in _batch().items():
        assert type(moved[key]) is Tensor
        assert moved[key].shape == before.shape
        assert moved[key].dtype == torch.float32
        assert before.min() - 1e-6 <= moved[key].min()
        assert moved[key].max() <= before.max() + 1e-6
    for key in ("brain", "lesion"):
        assert set(moved[key].unique().tolist()) == {0.0, 1.0}


def test_masks_go_with_the_picture(moved: dict[str, Tensor]) -> None:
    """Beyond the one voxel at an edge, where the picture is interpolated and the mask is not."""
    for mask, shown in (("brain", moved["source"][:, 0] > 0.2), ("lesion", moved["source"][:, 1] > 0)):
        for inside, picture in zip(moved[mask][:, 0].numpy() > 0, shown.numpy(), strict=True):
            assert not (picture & ~ndimage.binary_dilation(inside)).any()
            assert not (ndimage.binary_erosion(inside) & ~picture).any()


def test_outside_the_brain_stays_background(moved: dict[str, Tensor]) -> None:
    for i in SLICES:
        far = ~ndimage.binary_dilation(moved["brain"][i, 0].numpy() > 0, iterations=2)
        assert np.abs(moved["source"][i, 0].numpy()[far] - BACKGROUND).max() < 1e-5
        assert np.abs(moved["target"][i, 0].numpy()[far] + 1).max() < 1e-5


def test_size_of_the_lesion_is_kept(moved: dict[str, Tensor]) -> None:
    np.testing.assert_allclose(moved["lesion"].sum(dim=(1, 2, 3)), LESION.sum(), rtol=0.05)


def test_slices_without_target_and_lesion_are_moved_alike(moved: dict[str, Tensor]) -> None:
    kept = {key: value for key, value in _batch().items() if key in ("source", "brain")}
    alone = move(kept, torch.stack([AUGMENTATION(Draw(i, 0, 0)) for i in SLICES]))
    assert set(alone) == {"source", "brain"}
    assert all(torch.equal(values, moved[key]) for key, values in alone.items())


def test_no_move_leaves_a_slice_as_it_is() -> None:
    still = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(len(SLICES), 2, 3)
    for key, values in move(_batch(), still).items():
        torch.testing.assert_close(values, _batch()[key], atol=1e-4, rtol=0)


# ------------------------------------------------------------------------------------------------------------- draws


@pytest.fixture(scope="module")
def drawn() -> list[Parameters]:
    return [_parameters(AUGMENTATION(Draw(i, epoch, 0))) for i in range(200) for epoch in range(20)]


def test_each_axis_is_flipped_half_of_the_time_and_most_slices_are_moved(drawn: list[Parameters]) -> None:
    flips = np.array([p.flips for p in drawn]) < 0
    both = [[(flips == [h, w]).all(axis=1).mean() for w in (False, True)] for h in (False, True)]
    np.testing.assert_allclose(both, 0.25, atol=0.03)
    still = np.array([np.abs(p.shift).max() < 1e-3 and abs(p.angle) < 1e-5 for p in drawn])
    assert still.mean() == pytest.approx(0.1, abs=0.02)


def test_angles_shifts_and_scales_are_uniform_over_the_published_ranges(drawn: list[Parameters]) -> None:
    affine = [p for p in drawn if np.abs(p.shift).max() > 1e-3]
    columns = [
        (np.array([p.angle for p in affine]), np.pi / 16, 1e-5),
        *((np.array([p.shift[axis] for p in affine]) * SPACING, 32.0, 1e-3) for axis in (0, 1)),
        *((np.array([p.scale[axis] for p in affine]) - 1, 0.001, 1e-6) for axis in (0, 1)),
    ]
    for values, limit, rounding in columns:
        assert np.abs(values).max() <= limit + rounding
        assert np.abs(values).max() >= 0.99 * limit
        assert stats.kstest(values, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef([values for values, _, _ in columns]) - np.eye(5)).max() < 0.06


def test_shifts_are_in_millimetres_whatever_the_grid() -> None:
    """A picture of half as many voxels of twice the size is moved by the same share of it."""
    coarse, fine = PublishedAugmentation(4.0, (48, 56)), PublishedAugmentation(2.0, (96, 112))
    for i in SLICES:
        torch.testing.assert_close(coarse(Draw(i, 0, 0)), fine(Draw(i, 0, 0)))


def test_seed_and_draw_alone_decide_the_move() -> None:
    draws = [Draw(i, epoch, repeat) for i in range(3) for epoch in range(3) for repeat in range(3)]
    first = [AUGMENTATION(draw) for draw in draws]
    again = [PublishedAugmentation(SPACING, SIZE, seed=5)(draw) for draw in reversed(draws)][::-1]
    other = [PublishedAugmentation(SPACING, SIZE, seed=6)(draw) for draw in draws]
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))
    assert len({tuple(theta.ravel().tolist()) for theta in first}) > 20  # of 27, of which a tenth is only flipped


def test_the_published_flips_alone_are_those_of_the_published_augmentation() -> None:
    draws = [Draw(i, epoch, repeat) for i in range(20) for epoch in range(5) for repeat in range(2)]
    published = [_parameters(AUGMENTATION(draw)).flips < 0 for draw in draws]
    assert [Flips(2, seed=5)(draw) for draw in draws] == [h + 2 * w for h, w in published]
    assert [Flips(1, seed=5)(draw) for draw in draws] == [h for h, _ in published]
    assert {Flips(0, seed=5)(draw) for draw in draws} == {0}


@pytest.mark.parametrize(("axes", "variants"), [(0, 1), (1, 2), (2, 4)])
def test_flips_visit_every_variant_equally_often(axes: int, variants: int) -> None:
    drawn = [Flips(axes)(Draw(i, epoch, 0)) for i in range(200) for epoch in range(20)]
    assert list(Flips(axes).numbers) == list(range(variants))
    shares = np.bincount(drawn) / len(drawn)
    np.testing.assert_allclose(shares, np.full(variants, 1 / variants), atol=0.03)


@pytest.mark.parametrize(("number", "axes"), [(0, []), (1, [1]), (2, [2]), (3, [1, 2])])
def test_a_flip_reverses_every_array_exactly(number: int, axes: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(2, 5, 7, generator=generator).half()
    flipped = flip({"source": picture, "brain": (picture[:1] > 0.5).byte()}, number)
    assert torch.equal(flipped["source"], torch.flip(picture, axes))
    assert torch.equal(flipped["brain"], torch.flip((picture[:1] > 0.5).byte(), axes))


def test_a_slice_moved_alone_is_the_slice_moved_in_its_batch_also_where_neighbours_are_larger() -> None:
    """Of a 2.5D source the slice below may show more brain than the mask of the slice itself."""
    rng, size = np.random.default_rng(0), (48, 56)
    x, y = np.ogrid[-24:24, -28:28]
    small, large = (x / 9) ** 2 + (y / 11) ** 2 < 1, (x / 18) ** 2 + (y / 22) ** 2 < 1
    source = np.stack([np.where(mask, rng.uniform(-0.5, 1, size), -1.0) for mask in (large, small, small)])
    arrays = {
        "source": torch.from_numpy(source.astype(np.float16)),
        "brain": torch.from_numpy(small[None].astype(np.uint8)),
    }
    augmentation = PublishedAugmentation(spacing=4.0, size=size)
    for number in range(12):
        theta = augmentation(Draw(number, 0, 0))
        alone = move_slice(arrays, theta, large)
        batch = move({name: values[None].float() for name, values in arrays.items()}, theta[None])
        for name in arrays:
            torch.testing.assert_close(alone[name], batch[name][0], atol=1e-4, rtol=0)
