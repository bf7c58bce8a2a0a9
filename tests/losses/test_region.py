"""Errors over regions of the head, by hand; the rim against scipy's distance transform."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from ctp_ldm.losses import RegionError
from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample
from losses.heads import bound, from_yaml, gradient, head, random_head, spec_of


@pytest.fixture
def sample() -> Sample:
    """Five pixels: lesion, brain beside it, brain further off, outside, and lesion drawn outside the brain."""
    return head(torch.tensor([[[[1.0, 1.0, 1.0, 0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0, 0.0, 0.0, 1.0]]]]))


TARGET = torch.zeros(1, 2, 1, 5)
DECODED = torch.tensor([[[[1.0, -2.0, 5.0, 10.0, 20.0]], [[3.0, 4.0, 6.0, 10.0, 20.0]]]])
SQUARES = {"image": 1 + 4 + 25 + 100 + 400 + 9 + 16 + 36 + 100 + 400, "brain": 1 + 4 + 25 + 9 + 16 + 36}
SQUARES |= {"lesion": 1 + 9, "rim": 4 + 16, "background": 4 + 25 + 16 + 36}
SIZES = {"image": 5, "brain": 3, "lesion": 1, "rim": 1, "background": 2}
REGIONS = list(SIZES)


@pytest.mark.parametrize("region", REGIONS)
def test_each_region_by_hand(region: Any, sample: Sample) -> None:
    term = bound(RegionError(region, weight=0.3, rim=2.0))
    assert term(DECODED, TARGET, sample).item() == pytest.approx(SQUARES[region] / (2 * SIZES[region]))


@pytest.mark.parametrize(
    ("region", "expected"),
    [("image", 81 / 10), ("brain", 21 / 6), ("lesion", 4 / 2), ("rim", 6 / 2), ("background", 17 / 4)],
)
def test_power_one_is_the_absolute_error(region: Any, expected: float, sample: Sample) -> None:
    term = bound(RegionError(region, weight=0.3, power=1, rim=2.0))
    assert term(DECODED, TARGET, sample).item() == pytest.approx(expected)


@pytest.mark.parametrize("region", REGIONS)
def test_per_brain_divides_by_the_brains_pixels(region: Any, sample: Sample) -> None:
    term = bound(RegionError(region, weight=1.0, per="brain", rim=2.0))
    assert term(DECODED, TARGET, sample).item() == pytest.approx(SQUARES[region] / (2 * 3))


@pytest.mark.parametrize("region", REGIONS)
def test_per_area_divides_by_the_same_area_in_each_slice(region: Any, sample: Sample) -> None:
    """300 mm² are 75 pixels of 2 mm; two slices, the second without lesion or error."""
    empty = torch.zeros(1, 1, 1, 5)
    two = head(torch.cat([sample["brain"]] * 2), torch.cat([sample["lesion"], empty]))
    decoded, target = torch.cat([DECODED, torch.zeros_like(DECODED)]), torch.cat([TARGET] * 2)
    term = bound(RegionError(region, weight=1.0, per=300.0, rim=2.0))
    assert term(decoded, target, two).item() == pytest.approx(SQUARES[region] / (2 * 2 * 75))


@pytest.mark.parametrize(("per", "ratio"), [("region", 4.0), ("brain", 1.0), (300.0, 1.0)])
def test_a_voxel_of_a_lesion_a_quarter_as_large_weighs_more_only_per_region(per: Any, ratio: float) -> None:
    gradients = []
    for width in (4, 1):
        lesion = torch.zeros(1, 1, 4, 8)
        lesion[..., 0, :width] = 1
        decoded = torch.ones(1, 2, 4, 8, requires_grad=True)
        term = bound(RegionError("lesion", weight=1.0, per=per))
        term(decoded, torch.zeros(1, 2, 4, 8), head(torch.ones(1, 1, 4, 8), lesion)).backward()
        gradients.append(gradient(decoded)[0, 0, 0, 0].item())
    assert gradients[1] / gradients[0] == pytest.approx(ratio)


def test_channels_are_weighted_by_name(sample: Sample) -> None:
    term = bound(RegionError("lesion", weight=1.0, channel_weights={"adc": 3.0, "dwi": 1.0}))
    assert term(DECODED, TARGET, sample).item() == pytest.approx((0.5 * 1 + 1.5 * 9) / 2)
    swapped = bound(RegionError("lesion", weight=1.0, channel_weights={"adc": 3.0}), spec_of("adc", "dwi"))
    assert swapped(DECODED, TARGET, sample).item() == pytest.approx((1.5 * 1 + 0.5 * 9) / 2)


def test_a_channel_of_weight_zero_is_switched_off(sample: Sample) -> None:
    """What is left is the mean over the other alone."""
    term = bound(RegionError("brain", weight=1.0, channel_weights={"dwi": 0.0}))
    assert term(DECODED, TARGET, sample).item() == pytest.approx((9 + 16 + 36) / 3)


@pytest.mark.filterwarnings("ignore:channel_weights name")
def test_a_term_for_dwi_and_adc_serves_adc_alone(sample: Sample) -> None:
    term = bound(RegionError("lesion", weight=1.0, channel_weights={"dwi": 1.0, "adc": 3.0}), spec_of("adc"))
    assert term(DECODED[:, 1:], TARGET[:, 1:], sample).item() == pytest.approx(9)


@pytest.mark.parametrize("per", ["region", "brain", 300.0])
@pytest.mark.parametrize("region", ["lesion", "rim"])
def test_a_batch_without_lesion_gives_zero_with_zero_gradients(region: Any, per: Any, sample: Sample) -> None:
    sample["lesion"] = torch.zeros_like(sample["lesion"])
    decoded = DECODED.clone().requires_grad_()
    loss = bound(RegionError(region, weight=1.0, per=per))(decoded, TARGET, sample)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(gradient(decoded), torch.zeros_like(decoded))


@pytest.mark.parametrize("region", REGIONS)
def test_a_batch_without_brain_gives_zero_with_zero_gradients(region: Any, sample: Sample) -> None:
    sample["brain"] = torch.zeros_like(sample["brain"])
    decoded = DECODED.clone().requires_grad_()
    loss = bound(RegionError(region, weight=1.0, per="brain"))(decoded, TARGET, sample)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(gradient(decoded), torch.zeros_like(decoded))


@pytest.mark.parametrize(("per", "pixels"), [("region", 1.0), ("brain", 3.0), (300.0, 75.0)])
@pytest.mark.parametrize(("region", "where"), [("lesion", 0), ("rim", 1)])
def test_the_gradient_pulls_towards_the_target_inside_the_region_only(
    region: Any, where: int, per: Any, pixels: float, sample: Sample
) -> None:
    decoded = DECODED.clone().requires_grad_()
    bound(RegionError(region, weight=1.0, per=per, rim=2.0))(decoded, TARGET, sample).backward()
    expected = torch.zeros_like(decoded)
    expected[..., where] = DECODED[..., where] / pixels  # d (x² / 2)/dx
    torch.testing.assert_close(gradient(decoded), expected)


@pytest.mark.parametrize(
    ("spacing", "rim"), [(1.0, 10.0), (0.9, 9.0), (0.7, 4.2), (2.0, 10.0), (3.0, 10.0), (6.0, 10.0), (1.0, 1.0)]
)
@pytest.mark.parametrize("autocast", [False, True])
def test_the_rim_is_all_that_is_near_a_lesion(spacing: float, rim: float, autocast: bool) -> None:
    """The loss of 1 in each pixel per picture counts the rim's pixels; its gradient says which they are."""
    generator = torch.Generator().manual_seed(1)
    lesion = (
        torch.rand(4, 1, 40, 50, generator=generator) > torch.tensor([0.8, 0.998, 0.999, 1]).view(4, 1, 1, 1)
    ) * 1.0
    brain = (torch.rand(4, 1, 40, 50, generator=generator) > 0.1).float()
    decoded = torch.full((4, 2, 40, 50), 0.5, requires_grad=True)
    term = bound(RegionError("rim", weight=1.0, per=spacing**2 / 4, rim=rim), spec_of(spacing=spacing))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        term(decoded, torch.zeros(4, 2, 40, 50), head(brain, lesion)).backward()
    for found, inside, sick in zip(gradient(decoded)[:, 0], brain[:, 0], (brain * lesion)[:, 0], strict=True):
        distance = ndimage.distance_transform_edt(1 - sick.numpy(), sampling=spacing)
        near = (distance > 0) & (distance <= rim + 1e-9) & bool(sick.any())
        np.testing.assert_array_equal(found.numpy() > 0, near & (inside.numpy() > 0))


def test_a_rim_narrower_than_a_pixel_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rim of loss term 'rim' is 1\.5 mm where pixels are 2\.0 mm"):
        bound(RegionError("rim", weight=1.0, rim=1.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per": 0.0}, "per of loss term 'rim' is 0.0; expected region, brain or an area in mm²"),
        ({"per": float("nan")}, "per of loss term 'rim' is nan"),
        ({"rim": -1.0}, "rim of loss term 'rim' is -1.0; expected a distance in mm"),
        ({"weight": -1.0}, "weight of loss term 'rim' is -1.0"),
    ],
)
def test_numbers_without_meaning_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RegionError("rim", **{"weight": 1.0, **arguments})


def test_data_without_lesion_masks_are_refused_where_they_are_needed(sample: Sample) -> None:
    del sample["lesion"]
    bound(RegionError("image", weight=1.0))(DECODED, TARGET, sample)
    bound(RegionError("brain", weight=1.0))(DECODED, TARGET, sample)
    for region in ("lesion", "rim", "background"):
        with pytest.raises(ValueError, match=f"loss term '{region}' needs lesion masks"):
            bound(RegionError(region, weight=1.0))(DECODED, TARGET, sample)


def test_two_terms_over_a_region_have_names_of_their_own() -> None:
    assert RegionError("lesion", 1.0).name == "lesion"
    assert RegionError("lesion", 1.0, power=1, name="lesion_l1").name == "lesion_l1"


def test_a_term_that_is_not_bound_is_not_used(sample: Sample) -> None:
    with pytest.raises(AttributeError, match="factors"):
        RegionError("brain", weight=1.0)(DECODED, TARGET, sample)


@pytest.mark.parametrize("per", ["region", "brain", "300"])
def test_it_is_built_from_a_config(per: str) -> None:
    term = from_yaml(f"""
    terms:
      - class_path: ctp_ldm.losses.RegionError
        init_args:
          region: rim
          weight: 0.1
          power: 1
          channel_weights: {{dwi: 0, adc: 1}}
          per: {per}
          rim: 6
          name: around
          timesteps: [0, 500]
    """)
    assert isinstance(term, RegionError)
    assert (term.region, term.power, term.rim, term.name, term.timesteps) == ("rim", 1, 6.0, "around", (0, 500))
    assert term.per == (300.0 if per == "300" else per)
    assert term.channel_weights == {"dwi": 0.0, "adc": 1.0}
    assert bound(term)(*random_head()) > 0


def test_nothing_of_it_goes_into_checkpoints() -> None:
    assert bound(RegionError("rim", weight=1.0)).state_dict() == {}
