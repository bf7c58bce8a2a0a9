"""Feature distance against a layer-by-layer calculation in numpy, its gradient, and its errors before training."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import ResNet
from torch import Tensor

from ctp_ldm.losses import FeatureDistance
from ctp_ldm.networks import ConfigError
from losses.heads import bound, from_yaml, gradient, head, random_head, spec_of

ARGUMENTS: dict[str, Any] = {
    "block": "basic",
    "layers": [1, 1, 1, 1],
    "block_inplanes": [4, 6, 6, 6],
    "spatial_dims": 2,
    "n_input_channels": 2,
    "num_classes": 1,
}
NETWORK = {"_class_name": "ResNet", **ARGUMENTS}
LAYERS = ["conv1", "bn1", "layer1", "layer2"]


@pytest.fixture
def resnet() -> ResNet:
    """With statistics of its own in its batch norms."""
    torch.manual_seed(0)
    network = ResNet(**ARGUMENTS)
    network(torch.randn(8, 2, 24, 32))
    return network.eval()


@pytest.fixture
def weights(resnet: ResNet, tmp_path: Path) -> str:
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    return str(tmp_path / "resnet.pt")


@pytest.fixture
def term(weights: str) -> FeatureDistance:
    return bound(FeatureDistance(0.1, NETWORK, weights, LAYERS))


@torch.no_grad()
def expected(network: ResNet, decoded: Tensor, target: Tensor, brain: Tensor) -> float:
    """In float64; every layer is called by hand, and nothing is written in place."""
    network = deepcopy(network).double()
    images = [torch.where(brain > 0, decoded, target).double(), target.double()]
    features = []
    for image in images:
        conv = network.conv1(image)
        norm = network.bn1(conv.clone())
        one = network.layer1(network.maxpool(norm.clone().relu()))
        two = network.layer2(one.clone())
        features.append([f.clone().numpy() for f in (conv, norm, one, two)])
    distances = []
    for a, b in zip(*features, strict=True):
        a, b = (f / np.maximum(np.sqrt((f**2).sum(axis=1, keepdims=True)), 1e-5) for f in (a, b))
        distances.append(((a - b) ** 2).sum(axis=1).mean())
    return float(np.mean(distances))


def test_it_is_the_mean_squared_distance_of_unit_features(term: FeatureDistance, resnet: ResNet) -> None:
    decoded, target, sample = random_head()
    loss = term(decoded, target, sample)
    assert loss.item() == pytest.approx(expected(resnet, decoded, target, sample["brain"]), rel=1e-5)
    assert loss.dtype == torch.float32


def test_one_layer_of_one_position_by_hand(weights: str) -> None:
    """Features (3, 4, 0 …) and (0, 5, 0 …) have unit vectors (0.6, 0.8) and (0, 1) whose distance² is 0.4."""
    term = bound(FeatureDistance(1.0, NETWORK, weights, ["layer4"]), spec_of(size=(4, 4)))
    vectors = iter([[3.0, 4.0, 0, 0, 0, 0], [0.0, 5.0, 0, 0, 0, 0]])
    layer = term.network.get_submodule("layer4")
    layer.forward = lambda x: torch.tensor(next(vectors)).view(1, 6, 1, 1)
    image = torch.zeros(1, 2, 4, 4)
    assert term(image, image, head(torch.ones(1, 1, 4, 4))).item() == pytest.approx(0.4)


def test_its_gradient_is_that_of_the_calculation(term: FeatureDistance, resnet: ResNet) -> None:
    decoded, target, sample = random_head(count=1)
    decoded.requires_grad_()
    term(decoded, target, sample).backward()
    direction = torch.randn(decoded.shape, generator=torch.Generator().manual_seed(3)).double()
    start = decoded.detach().double()
    up, down = (expected(resnet, start + s * direction, target.double(), sample["brain"]) for s in (1e-6, -1e-6))
    assert (gradient(decoded).double() * direction).sum().item() == pytest.approx((up - down) / 2e-6, rel=1e-3)
    assert not gradient(decoded)[(sample["brain"] == 0).expand_as(decoded)].any()


def test_the_same_image_costs_nothing_and_has_a_finite_gradient(term: FeatureDistance) -> None:
    _, target, sample = random_head()
    decoded = target.clone().requires_grad_()
    loss = term(decoded, target, sample)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(gradient(decoded), torch.zeros_like(decoded))


def test_features_that_are_all_zero_have_a_finite_gradient(term: FeatureDistance) -> None:
    torch.nn.init.zeros_(term.network.get_submodule("conv1").weight)  # type: ignore[arg-type]
    decoded, target, sample = random_head()
    decoded.requires_grad_()
    loss = term(decoded, target, sample)
    loss.backward()
    assert loss.item() == 0
    assert gradient(decoded).isfinite().all()


def test_a_batch_without_brain_or_lesion_gives_zero(term: FeatureDistance) -> None:
    decoded, target, _ = random_head()
    assert term(decoded, target, head(torch.zeros(2, 1, 24, 32))).item() == 0


def test_the_network_is_neither_trained_nor_put_into_training_mode(term: FeatureDistance) -> None:
    term.train()
    decoded, target, sample = random_head()
    before = {name: value.clone() for name, value in term.state_dict().items()}
    term(decoded.requires_grad_(), target, sample).backward()
    assert gradient(decoded).abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in term.parameters())
    assert all(torch.equal(value, before[name]) for name, value in term.state_dict().items())
    assert not any(m.training for m in term.network.modules())
    assert term.own_loss(decoded, target, sample) is None


def test_a_copy_is_a_term_of_its_own(term: FeatureDistance) -> None:
    """Averaged weights begin with a copy of the module."""
    decoded, target, sample = random_head()
    loss = term(decoded, target, sample)
    copy = deepcopy(term)
    for parameter in term.parameters():
        parameter.data.zero_()
    assert torch.equal(copy(decoded, target, sample), loss)


def test_its_state_is_tensors_only(term: FeatureDistance) -> None:
    assert all(isinstance(value, Tensor) for value in term.state_dict().values())
    assert term.state_dict().keys() == {f"network.{name}" for name in term.network.state_dict()}


def test_mixed_precision_changes_it_by_rounding_only(term: FeatureDistance) -> None:
    decoded, target, sample = random_head()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = term(decoded, target, sample)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, term(decoded, target, sample), rtol=0.02, atol=0)


@pytest.mark.parametrize("layers", [["conv1", "layer9"], []])
def test_layers_that_are_not_there_are_told_with_those_that_are(layers: list[str], weights: str) -> None:
    with pytest.raises(ConfigError, match=r"features\.layers are .*; expected one or more of conv1, bn1, act, maxpool"):
        FeatureDistance(1.0, NETWORK, weights, layers)


def test_another_number_of_channels_is_told(weights: str) -> None:
    term = FeatureDistance(1.0, NETWORK, weights, LAYERS)
    with pytest.raises(
        ConfigError, match=r"features\.network does not take images of 1 channels \(adc\) on \[24, 32\]"
    ):
        term.bind(spec_of("adc"))


def test_layers_without_images_of_features_are_told(weights: str) -> None:
    with pytest.raises(ConfigError) as failure:
        bound(FeatureDistance(1.0, NETWORK, weights, ["layer1", "fc"]))
    assert str(failure.value).splitlines() == [
        "features.layers: fc gives a tensor of shape (1, 1)",
        "expected layers that give one image of features (B, F, h, w)",
    ]


def test_layers_that_are_not_called_are_told(weights: str) -> None:
    term = FeatureDistance(1.0, {**NETWORK, "no_max_pool": True}, weights, ["maxpool"])
    with pytest.raises(ConfigError, match=r"features\.layers: maxpool gives nothing: the network does not call it"):
        term.bind(spec_of())


def test_hooks_are_gone_after_a_pass_that_fails(term: FeatureDistance) -> None:
    decoded, target, sample = random_head()
    with pytest.raises(RuntimeError):
        term(decoded[:, :1], target[:, :1], sample)
    assert not any(module._forward_hooks for module in term.network.modules())


def test_it_is_built_from_a_config(weights: str) -> None:
    term = from_yaml(f"""
    terms:
      - class_path: ctp_ldm.losses.FeatureDistance
        init_args:
          weight: 0.1
          network:
            _class_name: ResNet
            block: basic
            layers: [1, 1, 1, 1]
            block_inplanes: [4, 6, 6, 6]
            spatial_dims: 2
            n_input_channels: 2
            num_classes: 1
          weights: {weights}
          layers: [layer1, layer2]
    """)
    assert isinstance(term, FeatureDistance)
    assert (term.weight, term.name, term.layers) == (0.1, "features", ["layer1", "layer2"])
    assert bound(term)(*random_head()) > 0
