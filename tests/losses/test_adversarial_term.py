"""The discriminator of decoded images: whose loss trains whom, and what it may see."""

from typing import Any

import pytest
import torch
from monai.networks.nets import PatchDiscriminator

from ctp_ldm.losses import Adversarial
from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample
from losses.heads import bound, from_yaml, gradient, head, random_head, spec_of

SMALL: dict[str, Any] = {"_class_name": "PatchDiscriminator", "channels": 4, "num_layers_d": 2}


@pytest.fixture
def term() -> Adversarial:
    torch.manual_seed(0)
    return bound(Adversarial(0.1, SMALL))


def test_the_generators_term_is_minus_the_mean_score_of_the_decoded_brain(term: Adversarial) -> None:
    decoded, target, sample = random_head()
    scores = term.discriminator(torch.where(sample["brain"] > 0, decoded, target))[-1]
    torch.testing.assert_close(term(decoded, target, sample), -scores.mean())


def test_the_discriminators_loss_is_the_hinge_of_both(term: Adversarial) -> None:
    decoded, target, sample = random_head()
    real = term.discriminator(target)[-1]
    fake = term.discriminator(torch.where(sample["brain"] > 0, decoded, target))[-1]
    expected = ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()) / 2
    torch.testing.assert_close(term.own_loss(decoded, target, sample), expected)


def test_the_term_trains_the_image_and_not_the_discriminator(term: Adversarial) -> None:
    decoded, target, sample = random_head()
    decoded.requires_grad_()
    term(decoded, target, sample).backward()
    inside = sample["brain"].bool().expand_as(decoded)
    assert gradient(decoded)[inside].abs().min() > 0
    assert not gradient(decoded)[~inside].any()
    assert all(p.grad is None and p.requires_grad for p in term.parameters())


def test_the_gradient_of_the_image_is_that_of_finite_differences(term: Adversarial) -> None:
    term.double()
    decoded, target, sample = random_head(count=1)
    decoded, target = decoded.double().requires_grad_(), target.double()
    term(decoded, target, sample).backward()
    direction = torch.randn(decoded.shape, generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():  # the score in float64, which the term is not
        up, down = (
            -term.discriminator(torch.where(sample["brain"] > 0, decoded + s * direction, target))[-1].mean()
            for s in (1e-6, -1e-6)
        )
    assert (gradient(decoded) * direction).sum().item() == pytest.approx(((up - down) / 2e-6).item(), rel=1e-4)


def test_its_own_loss_trains_the_discriminator_and_not_the_image(term: Adversarial) -> None:
    decoded, target, sample = random_head()
    decoded.requires_grad_()
    loss = term.own_loss(decoded, target, sample)
    loss.backward()
    assert decoded.grad is None
    assert all(p.grad is not None and gradient(p).isfinite().all() for p in term.parameters())
    assert any(gradient(p).any() for p in term.parameters())


def test_both_losses_of_one_backward_pass_train_their_own(term: Adversarial) -> None:
    decoded, target, sample = random_head()
    decoded.requires_grad_()
    for loss in (term(decoded, target, sample), term.own_loss(decoded, target, sample)):
        loss.backward()
    separate = [gradient(decoded).clone(), *(gradient(p).clone() for p in term.parameters())]
    decoded.grad = None
    term.zero_grad()
    (term(decoded, target, sample) + term.own_loss(decoded, target, sample)).backward()
    torch.testing.assert_close([gradient(decoded), *(gradient(p) for p in term.parameters())], separate)


def test_what_is_decoded_outside_the_brain_gives_nothing_away(term: Adversarial) -> None:
    decoded, target, sample = random_head()
    other = decoded + 5 * (1 - sample["brain"])
    assert torch.equal(term(other, target, sample), term(decoded, target, sample))
    assert torch.equal(term.own_loss(other, target, sample), term.own_loss(decoded, target, sample))


def test_a_batch_without_brain_or_lesion_is_finite_and_moves_no_image(term: Adversarial) -> None:
    decoded, target, _ = random_head()
    decoded.requires_grad_()
    sample = head(torch.zeros(2, 1, 24, 32))
    (term(decoded, target, sample) + term.own_loss(decoded, target, sample)).backward()
    assert torch.equal(gradient(decoded), torch.zeros_like(decoded))
    assert all(gradient(p).isfinite().all() for p in term.parameters())


def test_it_learns_to_tell_them_apart(term: Adversarial) -> None:
    decoded, target, sample = random_head()
    optimizer = torch.optim.Adam(term.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        loss = term.own_loss(decoded, target, sample)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_discriminator_has_as_many_channels_as_there_are_targets_and_no_batch_norm() -> None:
    term = bound(Adversarial(0.1, SMALL), spec_of("adc"))
    decoded, target, sample = random_head()
    assert term(decoded[:, :1], target[:, :1], sample).isfinite()
    assert isinstance(term.discriminator, PatchDiscriminator)
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in term.modules())


def test_a_conditional_discriminator_sees_the_source_beside_the_image() -> None:
    torch.manual_seed(0)
    term = bound(Adversarial(0.1, SMALL, conditional=True))
    decoded, target, sample = random_head()
    sample["source"] = torch.rand(2, 1, 24, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    decoded.requires_grad_()
    fake = torch.where(sample["brain"] > 0, decoded, target)
    real_scores, fake_scores = (term.discriminator(torch.cat([x, sample["source"]], 1))[-1] for x in (target, fake))
    found = term(decoded, target, sample)
    torch.testing.assert_close(found, -fake_scores.mean())
    own = ((1 - real_scores).clamp(min=0).mean() + (1 + fake_scores).clamp(min=0).mean()) / 2
    torch.testing.assert_close(term.own_loss(decoded, target, sample), own)

    found.backward()
    assert gradient(decoded)[sample["brain"].bool().expand_as(decoded)].abs().min() > 0
    assert next(p for p in term.parameters() if p.ndim == 4).shape[1] == 3, "two targets and one source"
    swapped: Sample = {**sample, "source": sample["source"].flip(0)}
    assert not torch.equal(term(decoded, target, swapped), found)
    assert not torch.equal(term.own_loss(decoded, target, swapped), term.own_loss(decoded, target, sample))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**SMALL, "in_channels": 2}, r"adversarial\.discriminator\.in_channels follows from the data \(2\)"),
        ({**SMALL, "chanels": 2}, r"adversarial\.discriminator\.chanels is not an argument of PatchDiscriminator"),
        ({**SMALL, "_class_name": "UNet"}, r"adversarial\.discriminator\._class_name is UNet; expected one of"),
    ],
)
def test_a_wrong_config_is_told_before_training(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bound(Adversarial(0.1, config))


def test_it_is_built_from_a_config() -> None:
    term = from_yaml("""
    terms:
      - class_path: ctp_ldm.losses.Adversarial
        init_args:
          weight: 0.05
          discriminator: {_class_name: PatchDiscriminator, channels: 4, num_layers_d: 2}
          conditional: true
          timesteps: [0, 300]
    """)
    assert isinstance(term, Adversarial)
    assert (term.weight, term.conditional, term.name, term.timesteps) == (0.05, True, "adversarial", (0, 300))
    assert bound(term)(*random_head()).isfinite()
