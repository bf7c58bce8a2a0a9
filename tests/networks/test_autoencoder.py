"""VQModel, AutoencoderKL and neither behind one face."""

from typing import Any

import pytest
import torch
from samples import KL, PIXELS, SIZE, VQ

from ctp_ldm.networks import ConfigError, ImageAutoencoder

BOTH = pytest.mark.parametrize("config", [VQ, KL], ids=["VQ", "KL"])


def build(config: dict[str, Any]) -> ImageAutoencoder:
    torch.manual_seed(0)
    return ImageAutoencoder(config, channels=2)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 2, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


@BOTH
def test_latents_are_smaller_by_the_factor_and_images_come_back_in_full_size(
    config: dict[str, Any], images: torch.Tensor
) -> None:
    net = build(config)
    latents = net.encode(images)
    assert (net.factor, net.latent_channels) == (2, 3)
    assert latents.shape == (2, 3, SIZE[0] // 2, SIZE[1] // 2)
    assert net.decode(latents).shape == images.shape


def test_each_further_level_doubles_the_factor() -> None:
    deeper = {
        "block_out_channels": [8, 8, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
    }
    net = build({**KL, **deeper})
    assert net.factor == 4
    assert net.encode(torch.zeros(1, 2, *SIZE)).shape[2:] == (4, 6)


@BOTH
def test_encoding_has_no_randomness_even_in_training(config: dict[str, Any], images: torch.Tensor) -> None:
    net = build(config).train()
    assert torch.equal(net.encode(images), net.encode(images))


def test_a_kl_autoencoder_encodes_to_the_mean_of_its_posterior(images: torch.Tensor) -> None:
    net = build(KL)
    assert torch.equal(net.encode(images), net.net.encode(images).latent_dist.mean)


@BOTH
def test_the_gradient_of_the_image_reaches_the_encoder(config: dict[str, Any], images: torch.Tensor) -> None:
    """Quantisation is a step function: only a straight-through gradient gets past it."""
    net = build(config)
    net.decode(net.encode(images)).square().mean().backward()
    assert net.net.encoder.conv_in.weight.grad.abs().sum() > 0


def test_a_vq_decoder_quantises_its_latents(images: torch.Tensor) -> None:
    net = build(VQ)
    codebook = net.net.quantize.embedding.weight.detach()
    codes = codebook[torch.arange(4 * 6) % len(codebook)].view(1, 4, 6, 3).permute(0, 3, 1, 2)
    distances = torch.cdist(codebook, codebook).fill_diagonal_(torch.inf)
    nudge = torch.full_like(codes, float(distances.min()) / 10)
    assert torch.equal(net.decode(codes), net.decode(codes + nudge))


@BOTH
def test_decoding_with_saved_memory_has_the_same_values_and_gradients(
    config: dict[str, Any], images: torch.Tensor
) -> None:
    net = build(config)
    latents = net.encode(images).detach()
    results = []
    for save_memory in (False, True):
        leaf = latents.clone().requires_grad_()
        net.zero_grad()
        decoded = net.decode(leaf, save_memory=save_memory)
        decoded.square().sum().backward()
        results.append((decoded.detach(), leaf.grad, net.net.decoder.conv_in.weight.grad.clone()))
    for plain, saved in zip(*results, strict=True):
        torch.testing.assert_close(plain, saved)


def test_the_kl_regulariser_is_the_divergence_from_the_standard_normal_per_latent_value(images: torch.Tensor) -> None:
    net = build(KL)
    posterior = net.net.encode(images).latent_dist
    normal = torch.distributions.Normal(posterior.mean, posterior.std)
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    reconstruction, regulariser = net.reconstruct(images)
    assert reconstruction.shape == images.shape
    torch.testing.assert_close(regulariser, expected)


def test_the_vq_regulariser_is_the_distance_to_the_nearest_code(images: torch.Tensor) -> None:
    """Codebook and commitment term have one value; diffusers weighs the former with β = 0.25 (its legacy order)."""
    net = build(VQ)
    latents = net.encode(images)
    points = latents.permute(0, 2, 3, 1).reshape(-1, 3)
    # In float64 from differences: cdist's default takes a root of cancelling squares.
    nearest = (points[:, None] - net.net.quantize.embedding.weight).double().square().sum(-1).min(dim=1).values
    reconstruction, regulariser = net.reconstruct(images)
    torch.testing.assert_close(regulariser.double(), 1.25 * nearest.mean() / 3)
    torch.testing.assert_close(reconstruction, net.decode(latents))


def test_in_pixel_space_an_image_is_its_own_latents(images: torch.Tensor) -> None:
    net = build(PIXELS)
    assert (net.in_pixels, net.factor, net.latent_channels) == (True, 1, 2)
    assert torch.equal(net.encode(images), images)
    assert torch.equal(net.decode(images), images)
    assert torch.equal(net.decode(images, save_memory=True), images)
    assert not net.state_dict()


@BOTH
def test_behind_a_pixel_unshuffle_pixels_are_channels(config: dict[str, Any], images: torch.Tensor) -> None:
    """Channel 4c + 2i + j of the network's input is pixel (i, j) of each 2 × 2 of the image's channel c."""
    net = build({**config, "unshuffle": 2})
    assert (net.factor, net.latent_channels) == (4, 3)
    corners = [images[:, c : c + 1, i::2, j::2] for c in range(2) for i in range(2) for j in range(2)]
    inside = torch.cat(corners, dim=1)
    encoded = net.net.encode(inside)
    latents = net.encode(images)
    assert torch.equal(latents, encoded.latents if config is VQ else encoded.latent_dist.mode())
    assert latents.shape == (2, 3, SIZE[0] // 4, SIZE[1] // 4)
    decoded, output = net.decode(latents), net.net.decode(latents).sample
    assert decoded.shape == images.shape
    for channel in range(8):
        c, i, j = channel // 4, channel // 2 % 2, channel % 2
        assert torch.equal(decoded[:, c, i::2, j::2], output[:, channel])
    reconstruction, _ = net.reconstruct(images)
    assert reconstruction.shape == images.shape


@BOTH
def test_the_last_layer_is_that_of_the_decoder_before_pixels_are_put_back(
    config: dict[str, Any], images: torch.Tensor
) -> None:
    net = build({**config, "unshuffle": 2})
    assert net.last_layer.shape == (8, 8, 3, 3)
    (gradient,) = torch.autograd.grad(net.reconstruct(images)[0].square().mean(), net.last_layer)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True, None])
def test_an_unshuffle_that_is_no_number_of_pixels_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"autoencoder\.unshuffle is .*; expected a whole number of pixels"):
        build({**KL, "unshuffle": value})


@pytest.mark.parametrize("more", [{}, {"use_quant_conv": False}])
def test_the_log_variance_can_start_low(more: dict[str, Any], images: torch.Tensor) -> None:
    net, usual = build({**KL, **more}), build({**KL, **more})
    net.start_at_log_variance(-5.0)
    found, expected = (one.net.encode(images).latent_dist for one in (net, usual))
    assert torch.equal(found.mean, expected.mean)
    assert found.logvar.mean().item() == pytest.approx(-5, abs=1)
    with pytest.raises(ConfigError, match=r"initial_log_variance is -5\.0 with VQModel; expected AutoencoderKL"):
        build(VQ).start_at_log_variance(-5.0)


@pytest.mark.parametrize(
    "config", [VQ, KL, {**KL, "unshuffle": 2}, PIXELS], ids=["VQ", "KL", "KL behind unshuffle", "pixels"]
)
def test_what_it_says_of_itself_builds_it_again(config: dict[str, Any]) -> None:
    said = build(config).describe()
    assert config.items() <= said.items()
    assert build(said).describe() == said
    assert ("unshuffle" in said) == ("unshuffle" in config)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"latent_chanels": 3}, r"autoencoder\.latent_chanels is not an argument of PixelSpace"),
        ({"in_channels": 2}, r"autoencoder\.in_channels follows from the data \(2\)"),
        ({"unshuffle": 2}, r"autoencoder\.unshuffle is not an argument of PixelSpace"),
    ],
)
def test_pixel_space_knows_no_settings(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({**PIXELS, **more})
