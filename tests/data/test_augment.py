"""Augmentation moves all of a slice's arrays together and makes no values of its own."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from ctp_ldm.data.augment import PublishedAugmentation

SIZE = (96, 112)
BACKGROUND = -0.5


def _disc(centre: tuple[float, float], radius: float) -> np.ndarray:
    x, y = np.ogrid[: SIZE[0], : SIZE[1]]
    return np.hypot(x - centre[0], y - centre[1]) < radius


BRAIN, LESION = _disc((48, 56), 26), _disc((38, 66), 9)


def _slice(target: bool = True) -> dict[str, torch.Tensor]:
    """Source 0 shows the brain, source 1 the lesion, target noise in the brain."""
    source = np.stack([np.where(BRAIN, 0.9, BACKGROUND), np.where(LESION, 1.0, -1.0)])
    noise = np.where(BRAIN, np.random.default_rng(0).uniform(-1, 1, SIZE), -1.0)[None]
    arrays = {"source": source, "target": noise, "brain": BRAIN[None], "lesion": LESION[None]}
    kept = arrays if target else {key: arrays[key] for key in ("source", "brain")}
    return {key: torch.tensor(value, dtype=torch.float32) for key, value in kept.items()}


@pytest.fixture(params=range(12))
def moved(request: pytest.FixtureRequest) -> dict[str, torch.Tensor]:
    torch.manual_seed(request.param)
    return PublishedAugmentation(spacing=4.0)(_slice())


def test_shapes_types_and_ranges_stay(moved: dict[str, torch.Tensor]) -> None:
    for key, before in _slice().items():
        assert type(moved[key]) is torch.Tensor
        assert moved[key].shape == before.shape
        assert moved[key].dtype == torch.float32
        assert before.min() - 1e-6 <= moved[key].min()
        assert moved[key].max() <= before.max() + 1e-6
    for key in ("brain", "lesion"):
        assert set(moved[key].unique().tolist()) == {0.0, 1.0}


def test_masks_go_with_the_picture(moved: dict[str, torch.Tensor]) -> None:
    """Beyond the one voxel at an edge, where the picture is interpolated and the mask is not."""
    for mask, shown in (("brain", moved["source"][0] > 0.2), ("lesion", moved["source"][1] > 0)):
        inside, picture = moved[mask][0].numpy() > 0, shown.numpy()
        assert not (picture & ~ndimage.binary_dilation(inside)).any()
        assert not (ndimage.binary_erosion(inside) & ~picture).any()


def test_outside_the_brain_stays_background(moved: dict[str, torch.Tensor]) -> None:
    far = ~ndimage.binary_dilation(moved["brain"][0].numpy() > 0, iterations=2)
    assert np.abs(moved["source"][0].numpy()[far] - BACKGROUND).max() < 1e-5
    assert np.abs(moved["target"][0].numpy()[far] + 1).max() < 1e-5


def test_size_of_the_lesion_is_kept(moved: dict[str, torch.Tensor]) -> None:
    assert moved["lesion"].sum().item() == pytest.approx(LESION.sum(), rel=0.05)


def test_both_flips_and_shifts_occur_and_the_seed_decides() -> None:
    augmentation = PublishedAugmentation(spacing=4.0)
    centres = []
    for seed in range(40):
        torch.manual_seed(seed)
        brain, lesion = (augmentation(_slice())[key][0].numpy() for key in ("brain", "lesion"))
        centres.append((*ndimage.center_of_mass(brain), *ndimage.center_of_mass(lesion)))
    brain_x, brain_y, lesion_x, lesion_y = np.transpose(centres)
    sides = {(bool(x), bool(y)) for x, y in zip(lesion_x > brain_x, lesion_y > brain_y, strict=True)}
    assert len(sides) == 4
    shift = np.abs([brain_x - 47.5, brain_y - 55.5])
    assert shift.max() < 8.0 + 1.5  # 32 mm are 8 voxels of 4 mm; the disc lies half a voxel off the middle
    assert shift.max() > 4.0
    torch.manual_seed(7)
    again = augmentation(_slice())["brain"][0].numpy()
    assert ndimage.center_of_mass(again) == pytest.approx(centres[7][:2])


def test_slices_without_target_and_lesion_are_augmented_too() -> None:
    torch.manual_seed(0)
    moved = PublishedAugmentation(spacing=4.0)(_slice(target=False))
    assert set(moved) == {"source", "brain"}
