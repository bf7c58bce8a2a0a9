"""bfloat16 under autocast trains like float32, because what cannot bear its rounding stays float32."""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import pytest
import torch
from diffusers import DDIMScheduler
from samples import (
    KL,
    NOISE_PREDICTION,
    VQ,
    ToyData,
    autoencoder,
    brain_mask,
    diffusion,
    optimizer,
    posttrain,
    random_batch,
    trainer,
)
from torch.nn import functional as F

from ctp_ldm.losses import RegionError
from ctp_ldm.modules import TranslationModule
from ctp_ldm.networks import ForwardProcess, ImageAutoencoder
from ctp_ldm.sample import Sample

BOTH = pytest.mark.parametrize("config", [VQ, KL], ids=["VQ", "KL"])
PATCH = {"_class_name": "PatchDiscriminator", "channels": 4, "num_layers_d": 1}
STEPS = 250


def autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_clean_latents_at_the_noisiest_step_lose_nothing_but_the_rounding_of_what_comes_in(kind: str) -> None:
    """With noise prediction an error is multiplied by 1 / √ᾱ, here by 80."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(8, 3, 6, 6, generator=generator) for _ in range(2))
    scheduler = {k: v for k, v in NOISE_PREDICTION.items() if not k.startswith("_")}
    prediction = ForwardProcess.diffusion(kind, DDIMScheduler(**scheduler).alphas_cumprod)
    last = torch.full((8,), 999)
    noisy, output = prediction.noisy(clean, noise, last), prediction.target(clean, noise, last)
    torch.testing.assert_close(prediction.clean(output, noisy, last), clean, atol=1e-4, rtol=1e-4)
    rounded = output.bfloat16(), noisy.bfloat16()
    with autocast():
        found = prediction.clean(*rounded, last)
    assert found.dtype == torch.float32
    assert torch.equal(found, prediction.clean(*(value.float() for value in rounded), last))


def test_noisy_latents_are_float32_whatever_the_latents_are() -> None:
    prediction = ForwardProcess.diffusion("v_prediction", torch.tensor([1 - 2**-12]))  # √ᾱ is 1 in bfloat16
    ones = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16)
    with autocast():
        noisy = prediction.noisy(ones, 0 * ones, torch.tensor([0]))
        target = prediction.target(ones, 0 * ones, torch.tensor([0]))
    assert noisy.item() == pytest.approx((1 - 2**-12) ** 0.5, rel=1e-6)
    assert target.item() == pytest.approx(-(2**-6), rel=1e-6)


def test_the_codes_that_are_chosen_for_given_latents_do_not_depend_on_autocast() -> None:
    """Neither do the codebook's loss and the straight-through gradient."""
    torch.manual_seed(0)
    net = ImageAutoencoder({**VQ, "num_vq_embeddings": 8192}, channels=2)
    latents = torch.randn(2, 3, 8, 12).bfloat16().float() / 8192
    seen: list[Any] = []
    net.net.quantize.register_forward_hook(lambda _, given, made: seen.append((given[0].dtype, made)))
    gradients = []
    for enabled in (False, True):
        leaf = latents.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            # What an encoder under autocast puts out.
            net.decode(leaf.bfloat16() if enabled else leaf)
        codes, regulariser, _ = seen[-1][1]
        gradients.append(torch.autograd.grad(regulariser + (codes * latents).sum(), leaf)[0])
    (_, (codes, loss, (_, _, choice))), (dtype, (codes_autocast, loss_autocast, (_, _, choice_autocast))) = seen
    assert dtype == codes_autocast.dtype == torch.float32
    assert len(choice.unique()) > 100
    assert torch.equal(choice_autocast, choice)
    assert torch.equal(codes_autocast, codes)
    assert torch.equal(loss_autocast, loss)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=2**-7, atol=0)  # rounded once, on its way back


@BOTH
def test_autocast_is_off_for_the_codebook_and_on_for_the_decoder(config: dict[str, Any], batch: Sample) -> None:
    net = autoencoder(config).autoencoder
    states: dict[str, bool] = {}
    for name, part in net.net.named_children():
        part.register_forward_pre_hook(lambda *_, name=name: states.update({name: torch.is_autocast_enabled("cpu")}))
    with autocast():
        images = [net.reconstruct(batch["target"])[0], net.decode(net.encode(batch["target"]), save_memory=True)]
    assert [image.dtype for image in images] == [torch.bfloat16] * 2
    assert states.pop("quantize", False) is False
    assert len(states) > 1
    assert all(states.values())


def test_the_kl_term_and_the_drawn_latents_are_those_of_float32_moments(batch: Sample) -> None:
    net = autoencoder(KL).autoencoder
    drawn: list[torch.Tensor] = []
    with autocast():
        moments = net.net.encode(batch["target"]).latent_dist.parameters
        net.net.post_quant_conv.register_forward_pre_hook(lambda _, given: drawn.append(given[0]))
        torch.manual_seed(3)
        _, regulariser = net.reconstruct(batch["target"])
    assert moments.dtype == torch.bfloat16
    mean, logvar = moments.float().chunk(2, dim=1)
    torch.manual_seed(3)
    torch.testing.assert_close(drawn[0], (mean + (logvar / 2).exp() * torch.randn_like(mean)).bfloat16())
    expected = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    assert regulariser.dtype == torch.float32
    torch.testing.assert_close(regulariser, expected)


@BOTH
def test_networks_whose_own_weights_are_bfloat16_still_reconstruct(config: dict[str, Any], batch: Sample) -> None:
    net = autoencoder(config).autoencoder.bfloat16()
    images, regulariser = net.reconstruct(batch["target"].bfloat16())
    assert images.dtype == torch.bfloat16
    assert images.isfinite().all()
    assert regulariser.isfinite()


def stages(**arguments: Any) -> dict[str, Any]:
    """Name → how to make the stage, always with the same weights."""
    terms = [RegionError("brain", 1.0), RegionError("lesion", 1.0)]
    adversary = {"discriminator": PATCH, "adversarial_start": 50}
    return {
        "VQ with discriminator": lambda: autoencoder(VQ, **adversary, **arguments),
        "KL": lambda: autoencoder(KL, regulariser_weight=1e-4, **arguments),
        "diffusion": lambda: diffusion(**arguments),
        "posttrain": lambda: posttrain(terms=terms, **arguments),
    }


@pytest.mark.parametrize("name", stages())
def test_the_loss_of_the_same_weights_and_draws_is_the_same_up_to_rounding(name: str, batch: Sample) -> None:
    module = stages()[name]()
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(module.loss(batch))
    for term, expected in losses[0].items():
        assert losses[1][term].dtype == torch.float32
        torch.testing.assert_close(losses[1][term], expected, rtol=2e-2, atol=1e-3, msg=f"{term}: {losses}")


def stroke(seed: int) -> Sample:
    """Smooth tissue, a lesion bright on DWI and dark on ADC, and a source that shows both."""
    batch = random_batch(seed=seed)
    tissue = F.avg_pool2d(batch["target"], 5, stride=1, padding=2)
    contrast = torch.tensor([0.9, -0.4]).view(1, 2, 1, 1)
    batch["target"] = torch.where(brain_mask() > 0, 0.3 * tissue - 0.3 + contrast * batch["lesion"], -1.0)
    batch["source"] = torch.cat([batch["target"][:, :1], tissue], dim=1) + 0.1 * batch["source"]
    return batch


class Terms(L.Callback):
    """The terms of every step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, TranslationModule)
        self.seen.append({name: float(value) for name, value in pl_module.last_terms.items()})


@pytest.mark.slow
@pytest.mark.parametrize("name", stages())
def test_training_in_bfloat16_ends_at_the_loss_of_float32(name: str, tmp_path: Path) -> None:
    """Within 5 %: mean of the last 50 of 250 steps, same weights, batches and draws.

    Measured on two or three data sets each: L1 within 1.7 % with VQ and discriminator and 0.8 % with KL, the latent
    loss and decoded terms within 0.2 %. What the adversary adds is chaos, in float32 too: weights changed by 10⁻⁶
    move the discriminator's term by 3.4 % on one processor, and another processor's bfloat16 moved it by 13 %. So it
    is not compared, nor are terms near 0 (adversarial, regulariser). The learning rate has to fall: at a constant
    one L1 differs by up to 13 %.
    """
    fitted = {
        "optimizer": optimizer(1e-3),
        "lr_scheduler": lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.02, total_iters=STEPS),
    }
    ends = []
    for precision in ("32-true", "bf16-mixed"):
        terms = Terms()
        run = trainer(tmp_path, max_steps=STEPS, precision=precision, callbacks=[terms])
        with patch.dict(os.environ, {"PL_GLOBAL_SEED": "0"}):
            run.fit(stages(**fitted)[name](), datamodule=ToyData(*(stroke(seed) for seed in range(4))))
        ends.append({term: sum(seen[term] for seen in terms.seen[-50:]) / 50 for term in terms.seen[0]})
        first, last = terms.seen[0], ends[-1]
        assert all(last[term] < first[term] for term in {"l1", "latent"} & set(first)), "nothing was learnt"
    for term in set(ends[0]) - {"adversarial", "discriminator", "regulariser"}:
        assert ends[1][term] == pytest.approx(ends[0][term], rel=0.05), term
