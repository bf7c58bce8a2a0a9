"""What each stage optimises, and which networks it trains."""

from typing import Any

import numpy as np
import pytest
import torch
from samples import KL, SPEC, VQ, autoencoder, diffusion, posttrain, random_batch
from torch import Tensor

from ctp_ldm.losses import Adversarial, PixelTerm, RegionError
from ctp_ldm.modules import TranslationModule
from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample

BOTH = pytest.mark.parametrize("config", [VQ, KL], ids=["VQ", "KL"])
STAGES = pytest.mark.parametrize("make", [autoencoder, diffusion, posttrain])


def terms() -> list[PixelTerm]:
    return [RegionError("brain", 0.3, channel_weights={"dwi": 1.0, "adc": 3.0}), RegionError("lesion", 0.5, power=1)]


def total(module: TranslationModule, batch: Sample, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.stack(list(module.loss(batch).values())).sum()


@BOTH
@pytest.mark.parametrize("lesion", [True, False])
@STAGES
def test_the_loss_and_its_gradients_are_finite_with_and_without_lesion(make: Any, lesion: bool, config: Any) -> None:
    module = make(config, terms=terms()) if make is posttrain else make(config)
    loss = total(module, random_batch(lesion=lesion))
    loss.backward()
    assert loss.isfinite()
    assert loss > 0
    gradients = [p.grad for p in module.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() for g in gradients)


@BOTH
@pytest.mark.parametrize("make", [diffusion, posttrain])
def test_only_the_denoiser_is_trained(make: Any, config: Any, batch: Sample) -> None:
    module = make(config, terms=terms()) if make is posttrain else make(config)
    total(module, batch).backward()
    assert all(p.grad is None and not p.requires_grad for p in module.autoencoder.parameters())
    (group,) = module.configure_optimizers().param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in module.denoiser.parameters()}


@pytest.mark.parametrize("make", [diffusion, posttrain])
def test_the_frozen_autoencoder_stays_in_evaluation_mode(make: Any) -> None:
    module = make().train()
    assert module.denoiser.training
    assert not any(m.training for m in module.autoencoder.modules())


def test_the_autoencoder_is_trained_on_weighted_l1_and_a_weighted_regulariser(batch: Sample) -> None:
    module = autoencoder(VQ, channel_weights={"dwi": 1.0, "adc": 3.0}, regulariser_weight=0.2)
    reconstruction, regulariser = module.autoencoder.reconstruct(batch["target"])
    dwi, adc = (reconstruction - batch["target"]).abs().mean(dim=(0, 2, 3))
    loss = module.loss(batch)
    torch.testing.assert_close(loss["l1"], (0.5 * dwi + 1.5 * adc) / 2)
    torch.testing.assert_close(loss["regulariser"], 0.2 * regulariser)


@BOTH
def test_by_default_the_autoencoder_learns_the_whole_picture_as_ever(config: Any, batch: Sample) -> None:
    module = autoencoder(config, channel_weights={"dwi": 1.0, "adc": 3.0})
    torch.manual_seed(0)
    reconstruction, _ = module.autoencoder.reconstruct(batch["target"])
    expected = ((reconstruction - batch["target"]).abs() * module.channel_factors).mean()
    torch.manual_seed(0)
    terms = module.loss(batch)
    assert list(terms) == ["l1", "regulariser"]
    assert torch.equal(terms["l1"], expected)


def test_the_autoencoder_weighs_picture_brain_and_lesion(batch: Sample) -> None:
    weights = {"image_weight": 0.1, "brain_weight": 1.0, "lesion_weight": 0.3}
    module = autoencoder(VQ, channel_weights={"dwi": 1.0, "adc": 3.0}, **weights)
    reconstruction = module.autoencoder.reconstruct(batch["target"])[0]
    error = ((reconstruction - batch["target"]).abs() * torch.tensor([0.5, 1.5]).view(1, 2, 1, 1)).mean(dim=1)
    inside, lesion = (batch[name][:, 0] > 0 for name in ("brain", "lesion"))  # type: ignore[literal-required]
    terms = module.loss(batch)
    torch.testing.assert_close(terms["l1"], 0.1 * error.mean())
    torch.testing.assert_close(terms["l1_brain"], error[inside].mean())
    torch.testing.assert_close(terms["l1_lesion"], 0.3 * error[inside & lesion].mean())


def test_the_autoencoders_lesion_term_is_0_without_lesion_and_refused_without_mask() -> None:
    module, batch = autoencoder(lesion_weight=0.3), random_batch(lesion=False)
    assert module.loss(batch)["l1_lesion"] == 0
    del batch["lesion"]
    with pytest.raises(ValueError, match=r"'l1_lesion' needs lesion masks, .* set needs_lesion in the DataModule"):
        module.loss(batch)
    assert autoencoder().loss(batch)["l1"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lesion_weight": -1.0}, r"lesion_weight is -1\.0; expected at least 0"),
        ({"brain_weight": float("nan")}, "brain_weight is nan; expected at least 0"),
        ({"image_weight": 0.0}, "image_weight, brain_weight, lesion_weight are all 0"),
        ({"config": VQ, "initial_log_variance": -5.0}, "with VQModel; expected AutoencoderKL"),
        ({"config": {**KL, "unshuffle": 3}}, r"data\.size \[16, 24\] is not divisible by 6"),
    ],
)
def test_weights_and_sizes_without_meaning_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        autoencoder(**settings)


def test_a_new_kl_autoencoder_can_start_with_little_noise(batch: Sample) -> None:
    module = autoencoder(initial_log_variance=-5.0)
    moments = module.autoencoder.net.encode(batch["target"]).latent_dist
    assert moments.logvar.mean().item() == pytest.approx(-5, abs=1)


def test_the_codebook_is_trained(batch: Sample) -> None:
    module = autoencoder(VQ)
    total(module, batch).backward()
    assert module.autoencoder.net.quantize.embedding.weight.grad.abs().sum() > 0


def test_the_control_has_the_loss_of_the_base(batch: Sample) -> None:
    base, control = diffusion(), posttrain(terms=[])
    assert torch.equal(total(control, batch, seed=3), total(base, batch, seed=3))
    assert not torch.equal(total(control, batch, seed=3), total(control, batch, seed=4))


@BOTH
def test_a_decoded_term_alone_trains_the_denoiser(config: Any, batch: Sample) -> None:
    module = posttrain(config, latent_weight=0.0, terms=[RegionError("lesion", 1.0)])
    total(module, batch).backward()
    assert module.denoiser.conv_in.weight.grad.abs().sum() > 0


@BOTH
def test_saving_decoder_memory_does_not_change_the_training(config: Any, batch: Sample) -> None:
    gradients = []
    for save in (False, True):
        module = posttrain(config, terms=terms(), checkpoint_decoder=save)
        total(module, batch).backward()
        gradients.append(module.denoiser.conv_in.weight.grad)
    torch.testing.assert_close(*gradients)


class Spy(PixelTerm):
    """Keeps what it is given; its value is the decoded image's mean."""

    def forward(self, decoded: Tensor, target: Tensor, sample: Sample) -> Tensor:
        self.decoded, self.target, self.sample = decoded, target, sample
        return decoded.mean()


def test_an_own_term_compares_the_decoded_estimate_with_the_real_image(batch: Sample) -> None:
    spy = Spy(weight=0.25, name="spy")
    module = posttrain(terms=[spy], latent_weight=2.0)
    torch.manual_seed(0)
    losses = module.loss(batch)
    torch.manual_seed(0)
    errors, clean, _ = module.denoise(batch)
    assert torch.equal(spy.target, batch["target"])
    assert spy.sample is batch
    torch.testing.assert_close(spy.decoded, module.decode(clean))
    torch.testing.assert_close(losses["spy"], 0.25 * spy.decoded.mean())
    torch.testing.assert_close(losses["latent"], 2 * errors.mean())


@pytest.mark.parametrize("latent_weight", [1.0, 2.0])
def test_the_lesions_latent_term_is_the_mean_by_the_lesions_share(latent_weight: float, batch: Sample) -> None:
    """Of a lesion that fills latent pixels in part and crosses the brain's edge."""
    batch["lesion"] = torch.zeros_like(batch["brain"])
    batch["lesion"][1:3, :, 3:10, 0:9] = 1
    module = posttrain(lesion_weight=0.3, latent_weight=latent_weight)
    torch.manual_seed(0)
    errors = module.denoise(batch)[0].detach().numpy()
    torch.manual_seed(0)
    losses = module.loss(batch)
    inside = (batch["lesion"] * batch["brain"]).numpy()
    share = inside.reshape(4, 1, 8, 2, 12, 2).mean(axis=(3, 5))
    assert set(np.unique(share)) == {0, 0.25, 0.5, 0.75, 1}
    expected = np.average(errors, weights=np.broadcast_to(share, errors.shape))
    assert losses["latent_lesion"].item() == pytest.approx(latent_weight * 0.3 * expected, rel=1e-5)
    assert losses["latent"].item() == pytest.approx(latent_weight * errors.mean(), rel=1e-5)


def test_the_lesions_latent_term_is_0_without_lesion_and_refused_without_mask() -> None:
    module, batch = diffusion(lesion_weight=0.3), random_batch(lesion=False)
    losses = module.loss(batch)
    assert losses["latent_lesion"] == 0
    losses["latent_lesion"].backward()
    assert all(p.grad is not None and not p.grad.any() for p in module.denoiser.parameters())
    del batch["lesion"]
    with pytest.raises(ValueError, match=r"lesion_weight is 0\.3, and not all training patients have lesion masks"):
        module.loss(batch)


def test_without_weight_the_lesions_latent_term_is_not_there(batch: Sample) -> None:
    assert set(diffusion().loss(batch)) == {"latent"}


def test_the_decoded_estimate_of_a_perfect_denoiser_is_the_reconstruction(batch: Sample) -> None:
    spy = Spy(weight=1.0, name="spy")
    module = posttrain(terms=[spy])
    latents = module.encode(batch["target"])

    def perfect(noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        a, s = (c[timesteps].view(-1, 1, 1, 1) for c in (module.process.signal, module.process.noise))
        noise = (noisy - a * latents) / s
        return a * noise - s * latents

    module.predict_output = perfect
    assert total(module, batch, seed=0).isfinite()
    torch.testing.assert_close(
        spy.decoded, module.autoencoder.decode(module.autoencoder.encode(batch["target"])), atol=1e-3, rtol=1e-3
    )


def test_a_term_with_timesteps_sees_only_the_slices_at_these(batch: Sample) -> None:
    early = Spy(weight=1.0, name="early", timesteps=(0, 500))
    module = posttrain(terms=[early])
    torch.manual_seed(1)
    _, clean, timesteps = module.denoise(batch)
    acts = timesteps < 500
    assert 0 < acts.sum() < 4
    torch.manual_seed(1)
    losses = module.loss(batch)
    decoded = module.decode(clean)[acts]
    torch.testing.assert_close(early.decoded, decoded)
    assert torch.equal(early.target, batch["target"][acts])
    assert torch.equal(early.sample["slice_index"], batch["slice_index"][acts])
    assert len(early.sample["case"]) == acts.sum()
    torch.testing.assert_close(losses["early"], decoded.mean())


def test_a_term_without_a_slice_at_its_timesteps_is_zero_with_zero_gradients(batch: Sample) -> None:
    early = Spy(weight=1.0, name="early", timesteps=(0, 1))
    module = posttrain(terms=[early], latent_weight=0.0)
    total(module, batch).backward()
    assert not hasattr(early, "decoded")
    assert all(not p.grad.any() for p in module.denoiser.parameters())


def test_a_discriminator_learns_by_its_own_loss_and_the_denoiser_by_the_other(batch: Sample) -> None:
    term = Adversarial(0.1, {"_class_name": "PatchDiscriminator", "channels": 4, "num_layers_d": 1})
    module = posttrain(terms=[term], latent_weight=0.0)
    groups = module.configure_optimizers().param_groups
    assert [group["name"] for group in groups] == ["denoiser", "terms"]
    losses = module.loss(batch)
    assert set(losses) == {"latent", term.name, f"{term.name}_own"}
    losses[f"{term.name}_own"].backward(retain_graph=True)
    assert all(p.grad is None for p in module.denoiser.parameters())
    own = [p.grad.clone() for p in term.parameters()]
    assert any(g.any() for g in own)
    losses[term.name].backward()
    assert module.denoiser.conv_in.weight.grad.any()
    assert all(torch.equal(p.grad, g) for p, g in zip(term.parameters(), own, strict=True))


@pytest.mark.parametrize(("given", "expected"), [((600, 602), {600, 601}), (None, set(range(1000)))])
def test_training_timesteps_fill_the_range_and_stay_in_it(given: Any, expected: set[int]) -> None:
    module = posttrain(timestep_range=given)
    seen: list[int] = []
    module.denoiser.register_forward_pre_hook(lambda _, arguments: seen.extend(arguments[1].tolist()))
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(10):
            module.loss(random_batch(16))
    assert set(seen) <= expected
    assert min(seen) - min(expected) < 50
    assert max(expected) - max(seen) < 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"terms": [RegionError("brain", 1.0), RegionError("brain", 2.0, power=1)]}, "two terms are named 'brain'"),
        ({"timestep_range": (500, 500)}, "timestep_range is .* expected 0 ≤ first < end ≤ 1000"),
        ({"timestep_range": (-1, 500)}, "timestep_range is"),
        ({"timestep_range": (0, 1001)}, "timestep_range is"),
        (
            {"timestep_range": (500, 1000), "terms": [RegionError("brain", 1.0, timesteps=(0, 200))]},
            r"'brain' acts at timesteps \[0, 200\], of which timestep_range \[500, 1000\] trains none",
        ),
        (
            {"terms": [RegionError("brain", 1.0, timesteps=(500, 2000))]},
            r"acts at timesteps \[500, 2000\] of 1000",
        ),
        ({"latent_weight": 0.0, "terms": []}, "expected something to optimise"),
        ({"latent_weight": -1.0}, "latent_weight is -1.0"),
        ({"lesion_weight": -0.3}, "lesion_weight is -0.3; expected at least 0"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        posttrain(**arguments)


@pytest.mark.parametrize("make", [diffusion, posttrain])
def test_pictures_that_do_not_divide_into_latents_are_refused(make: Any) -> None:
    plain = {**SPEC.to_plain(), "size": [16, 22]}
    good = make()
    with pytest.raises(ConfigError, match=r"\[16, 22\] is not divisible by 4"):
        type(good)(plain, **{key: good.hparams[key] for key in ("autoencoder", "denoiser", "scheduler")})
