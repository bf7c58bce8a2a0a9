"""The discriminator's terms by hand, their gradients, and the balance with the reconstruction."""

import pytest
import torch
from torch import Tensor

from ctp_ldm.losses import adaptive_weight, frozen, hinge_discriminator, hinge_generator
from losses.heads import gradient


def test_the_generators_term_is_minus_the_mean_score() -> None:
    fake = torch.tensor([[-3.0, 0.5], [1.0, 5.5]], requires_grad=True)
    term = hinge_generator(fake)
    term.backward()
    assert term.item() == -1.0
    # However sure the discriminator is: no tanh flattens the gradient.
    assert torch.equal(gradient(fake), torch.full((2, 2), -0.25))


def test_the_discriminators_term_counts_what_is_within_the_margin() -> None:
    real = torch.tensor([-2.0, 0.5, 1.5, 7.0], requires_grad=True)
    fake = torch.tensor([-4.0, -1.5, -0.5, 2.0], requires_grad=True)
    term = hinge_discriminator(real, fake)
    term.backward()
    assert term.item() == 0.5 * ((3.0 + 0.5) / 4 + (0.5 + 3.0) / 4)
    assert torch.equal(gradient(real), torch.tensor([-0.125, -0.125, 0, 0]))
    assert torch.equal(gradient(fake), torch.tensor([0, 0, 0.125, 0.125]))


def test_a_discriminator_that_tells_all_patches_apart_by_the_margin_has_nothing_to_learn() -> None:
    """With MONAI's tanh it would never get there."""
    assert hinge_discriminator(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -2.0])).item() == 0


def test_real_and_generated_patches_weigh_the_same_whatever_their_number() -> None:
    assert hinge_discriminator(torch.zeros(1), torch.full((9,), -1.0)).item() == 0.5


def test_terms_are_float32_whatever_comes_in() -> None:
    scores = torch.full((257,), 0.001953125, dtype=torch.bfloat16)  # 1 ± 2⁻⁹ is not a number of bfloat16
    for term, expected in (
        (hinge_generator(scores), -0.001953125),
        (hinge_discriminator(scores, scores), 1.0),
        (hinge_discriminator(scores, -torch.ones_like(scores)), 0.5 * (1 - 0.001953125)),
    ):
        assert term.dtype == torch.float32
        assert term.item() == expected


def linear(scale: float, layer: Tensor) -> tuple[Tensor, Tensor]:
    """Two losses of a layer w: 3 w₀ + 4 w₁, of gradient norm 5, and scale · (5 w₀ + 12 w₁), of norm 13 · scale."""
    return (layer * torch.tensor([3.0, 4.0])).sum(), scale * (layer * torch.tensor([5.0, 12.0])).sum()


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(1.0, 5 / (13 + 1e-4)), (-2.0, 5 / (26 + 1e-4)), (1e-4, 5 / (13e-4 + 1e-4)), (0.0, 1e4)],
    ids=["alike", "either sign", "gentle", "at most 10⁴"],
)
def test_the_weight_is_the_ratio_of_gradient_norms_at_the_layer(scale: float, expected: float) -> None:
    layer = torch.tensor([0.7, -0.2], requires_grad=True)
    weight = adaptive_weight(*linear(scale, layer), layer)
    assert weight.item() == pytest.approx(expected, rel=1e-6)
    assert weight.dtype == torch.float32
    assert not weight.requires_grad


def test_a_perfect_reconstruction_asks_for_no_adversarial_gradient() -> None:
    layer = torch.ones(2, requires_grad=True)
    assert adaptive_weight((layer * 0).sum(), layer.sum(), layer).item() == 0


def test_the_graph_outlives_the_weight_and_no_gradient_is_left_behind() -> None:
    layer = torch.tensor([1.0, 2.0], requires_grad=True)
    hidden = layer.exp()  # keeps a tensor for its backward pass
    first, second = hidden.sum(), hidden.square().sum()
    weight = adaptive_weight(first, second, layer)
    assert layer.grad is None
    (first + weight * second).backward()
    torch.testing.assert_close(gradient(layer), layer.detach().exp() + weight * 2 * (2 * layer.detach()).exp())


def test_without_gradients_there_is_nothing_to_balance() -> None:
    layer = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert adaptive_weight(*linear(1.0, layer), layer).item() == 0


def test_the_weight_is_the_same_under_autocast_up_to_rounding() -> None:
    """The layer's weights stay float32, its products are bfloat16."""
    torch.manual_seed(0)
    layer, data = torch.randn(8, 8, requires_grad=True), torch.randn(16, 8)
    weights = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = data @ layer
            weights.append(adaptive_weight(output.float().abs().mean(), hinge_generator(output * output), layer))
    assert output.dtype == torch.bfloat16
    assert weights[1].dtype == torch.float32
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-2, atol=0)


def test_gradients_pass_through_a_frozen_network_but_not_to_its_weights() -> None:
    network, image = torch.nn.Linear(2, 1), torch.ones(3, 2, requires_grad=True)
    with frozen(network):
        score = network(image).sum()
    score.backward()
    assert torch.equal(gradient(image), network.weight.detach().expand(3, 2))
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_a_network_thaws_after_an_error() -> None:
    network = torch.nn.Linear(2, 1)
    with pytest.raises(RuntimeError), frozen(network):
        network(torch.ones(3, 5))
    assert all(p.requires_grad for p in network.parameters())
