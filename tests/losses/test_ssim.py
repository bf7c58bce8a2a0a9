"""Structural similarity against skimage's, its gradient, and what it must not depend on."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from ctp_ldm.losses import StructuralSimilarity
from losses.heads import bound, from_yaml, gradient, head, random_head, spec_of

MARGIN = 5  # half the window: skimage repeats the border's pixels where torchmetrics does not


def far_from_the_border() -> Tensor:
    """(1, 1, 24, 32): an asymmetric brain with a hole, whose windows all lie within the picture."""
    brain = torch.zeros(1, 1, 24, 32)
    brain[..., MARGIN:-MARGIN, MARGIN + 1 : -MARGIN] = 1
    brain[..., 9:11, 14:17] = 0
    return brain


def reference(decoded: np.ndarray, target: np.ndarray, brain: np.ndarray, factors: tuple[float, float]) -> float:
    """1 − SSIM over brain and channels of one slice (2, H, W), in float64."""
    inside = np.where(brain, decoded, target)
    total = 0.0
    for channel, factor in enumerate(factors):
        _, similarity = structural_similarity(
            inside[channel],
            target[channel],
            data_range=2.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        total += factor * (1 - similarity)[brain].mean() / 2
    return total


@pytest.mark.parametrize(("weights", "factors"), [(None, (1.0, 1.0)), ({"dwi": 1.0, "adc": 3.0}, (0.5, 1.5))])
def test_it_is_skimages_over_the_brain(weights: dict[str, float] | None, factors: tuple[float, float]) -> None:
    decoded, target, _ = random_head(count=1)
    brain = far_from_the_border()
    term = bound(StructuralSimilarity(weight=0.2, channel_weights=weights))
    expected = reference(decoded[0].double().numpy(), target[0].double().numpy(), brain[0, 0].bool().numpy(), factors)
    assert term(decoded, target, head(brain)).item() == pytest.approx(expected, rel=1e-5)


def test_its_gradient_is_that_of_skimages() -> None:
    decoded, target, _ = random_head(count=1)
    brain = far_from_the_border()
    decoded.requires_grad_()
    bound(StructuralSimilarity(weight=1.0))(decoded, target, head(brain)).backward()
    values, inside = decoded.detach()[0].double().numpy(), brain[0, 0].bool().numpy()
    for place in ((0, 12, 16), (1, 6, 7), (1, MARGIN, MARGIN + 1)):
        step = np.zeros_like(values)
        step[place] = 1e-5
        up, down = (reference(values + s * step, target[0].double().numpy(), inside, (1, 1)) for s in (1, -1))
        assert gradient(decoded)[0][place].item() == pytest.approx((up - down) / 2e-5, rel=1e-4)
    assert not gradient(decoded)[0, :, ~inside].any()


def test_a_perfect_image_costs_nothing() -> None:
    _, target, sample = random_head()
    assert bound(StructuralSimilarity(weight=1.0))(target, target, sample).item() == pytest.approx(0, abs=1e-7)


def test_a_flat_difference_costs_what_the_formula_says() -> None:
    """Without variance SSIM is (2ab + c₁) / (a² + b² + c₁), c₁ = (0.01 · 2)²."""
    a, b, c = 0.5, -0.25, 0.0004
    decoded, target = torch.full((1, 2, 24, 32), a), torch.full((1, 2, 24, 32), b)
    loss = bound(StructuralSimilarity(weight=1.0))(decoded, target, head(torch.ones(1, 1, 24, 32)))
    assert loss.item() == pytest.approx(1 - (2 * a * b + c) / (a**2 + b**2 + c), rel=1e-6)


def test_what_is_decoded_outside_the_brain_does_not_matter() -> None:
    decoded, target, sample = random_head()
    term = bound(StructuralSimilarity(weight=1.0))
    other = decoded + 5 * (1 - sample["brain"])
    assert torch.equal(term(other, target, sample), term(decoded, target, sample))


def test_a_batch_without_brain_gives_zero_with_zero_gradients() -> None:
    decoded, target, _ = random_head()
    decoded.requires_grad_()
    loss = bound(StructuralSimilarity(weight=1.0))(decoded, target, head(torch.zeros(2, 1, 24, 32)))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(gradient(decoded), torch.zeros_like(decoded))


def test_mixed_precision_does_not_change_it() -> None:
    decoded, target, sample = random_head()
    term = bound(StructuralSimilarity(weight=1.0))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = term(decoded, target, sample)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, term(decoded, target, sample))


def test_it_is_built_from_a_config() -> None:
    term = from_yaml("""
    terms:
      - class_path: ctp_ldm.losses.StructuralSimilarity
        init_args: {weight: 0.5, channel_weights: {adc: 3.0}, timesteps: [0, 200]}
    """)
    assert isinstance(term, StructuralSimilarity)
    assert (term.weight, term.name, term.timesteps) == (0.5, "ssim", (0, 200))
    assert bound(term, spec_of())(*random_head()) > 0
