"""The patch discriminator of stage 1: who learns from what, from when on, and what becomes of it afterwards."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from samples import KL, VQ, ToyData, autoencoder, diffusion, optimizer, random_batch, trainer
from torch import Tensor

from ctp_ldm.losses import hinge_discriminator, hinge_generator
from ctp_ldm.modules import AutoencoderModule
from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample

PATCH = {"_class_name": "PatchDiscriminator", "channels": 4, "num_layers_d": 1}
BOTH = pytest.mark.parametrize("config", [VQ, KL], ids=["VQ", "KL"])


def module(config: dict[str, Any] = VQ, **arguments: Any) -> AutoencoderModule:
    return autoencoder(config, **{"discriminator": PATCH, "optimizer": optimizer(0.01), **arguments})


def gradients(network: torch.nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def kernels(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """All but biases: while every score is within the margin the last bias has no gradient."""
    return [p for p in network.parameters() if p.ndim > 1]


def weights(network: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def equal(ones: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ones, others, strict=True))


def fit(model: AutoencoderModule, folder: Path, steps: int, resume: Path | None = None, **settings: Any) -> L.Trainer:
    """Two batches an epoch."""
    run = trainer(folder, max_steps=steps, **settings)
    data = ToyData(*(random_batch(seed=i) for i in range(2)))
    run.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return run


class Record(L.Callback):
    """After every batch: what the given function says of the module."""

    def __init__(self, look: Callable[[AutoencoderModule], Any]) -> None:
        self.look = look
        self.seen: list[Any] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.seen.append(self.look(pl_module))  # type: ignore[arg-type]


@BOTH
def test_the_adversarial_term_trains_the_autoencoder_only(config: dict[str, Any], batch: Sample) -> None:
    model = module(config)
    model.loss(batch)["adversarial"].backward()
    assert gradients(model.discriminator) == [None] * len(list(model.discriminator.parameters()))
    assert model.autoencoder.net.decoder.conv_in.weight.grad.abs().sum() > 0


@BOTH
def test_the_discriminators_term_trains_the_discriminator_only(config: dict[str, Any], batch: Sample) -> None:
    model = module(config)
    model.loss(batch)["discriminator"].backward()
    assert gradients(model.autoencoder) == [None] * len(list(model.autoencoder.parameters()))
    assert all(p.grad.abs().sum() > 0 for p in kernels(model.discriminator))


def test_the_terms_are_the_hinge_of_the_real_image_and_its_reconstruction(batch: Sample) -> None:
    model = module(adversarial_weight=0.3)
    terms = model.loss(batch)
    real = model.discriminator(batch["target"])[-1]
    fake = model.discriminator(model.autoencoder.reconstruct(batch["target"])[0])[-1]
    assert real.shape == (4, 1, 6, 10)
    torch.testing.assert_close(terms["discriminator"], hinge_discriminator(real, fake))
    # The adaptive weight is positive: what is left of the term is its size, which the balance sets.
    assert torch.sign(terms["adversarial"]) == torch.sign(hinge_generator(fake))


@pytest.mark.parametrize("weight", [0.2, 3.0])
@pytest.mark.parametrize(
    "more",
    [{}, {"config": {**VQ, "unshuffle": 2}}, {"image_weight": 0.1, "brain_weight": 1.0, "lesion_weight": 0.3}],
    ids=["picture", "behind a pixel-unshuffle", "picture, brain and lesion"],
)
def test_at_the_last_layer_the_adversarial_gradient_is_a_fixed_part_of_that_of_l1(
    more: dict[str, Any], weight: float, batch: Sample
) -> None:
    model = module(adversarial_weight=weight, **more)
    terms, layer = model.loss(batch), model.autoencoder.net.decoder.conv_out.weight
    l1 = torch.stack([value for name, value in terms.items() if name.startswith("l1")]).sum()
    norms = [torch.autograd.grad(of, layer, retain_graph=True)[0].norm() for of in (terms["adversarial"], l1)]
    assert float(norms[0] / norms[1]) == pytest.approx(weight, rel=1e-2)  # 10⁻⁴ is added to the divisor


def test_with_a_discriminator_every_parameter_has_a_gradient_before_the_start_too(batch: Sample) -> None:
    """Plain DDP waits for all of them."""
    model = module(adversarial_start=5)
    torch.stack(list(model.loss(batch).values())).sum().backward()
    assert all(p.grad is not None for p in model.autoencoder.parameters())
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.discriminator.parameters())


def test_before_the_start_the_autoencoder_trains_as_without_one(tmp_path: Path) -> None:
    """Bit by bit; with VQ, whose training has no randomness."""
    with_one, without = module(adversarial_start=3), module(discriminator=None)
    before = weights(with_one.discriminator)
    terms = Record(lambda model: {k: float(v) for k, v in model.last_terms.items()})
    fit(with_one, tmp_path, 3, callbacks=[terms])
    fit(without, tmp_path, 3)
    assert all(seen["adversarial"] == seen["discriminator"] == 0 for seen in terms.seen)
    assert equal(weights(with_one.autoencoder), weights(without.autoencoder))
    assert not equal(weights(without.autoencoder), weights(module().autoencoder)), "nothing was trained"
    # AdamW's decay alone: 10⁻² · learning rate of each weight and step.
    for old, new in zip(before, weights(with_one.discriminator), strict=True):
        torch.testing.assert_close(new, old * (1 - 1e-4) ** 3)


@BOTH
def test_after_the_start_both_networks_train(config: dict[str, Any], tmp_path: Path) -> None:
    model = module(config, adversarial_start=1)
    record = Record(lambda m: (float(m.last_terms["adversarial"]), kernels(copy.deepcopy(m.discriminator))))
    fit(model, tmp_path, 3, callbacks=[record])
    adversarial, discriminators = zip(*record.seen, strict=True)
    assert adversarial[0] == 0
    assert adversarial[1] != 0
    for old, new in zip(discriminators[0], discriminators[1], strict=True):
        assert (new - old).abs().max() > 1e-3, "no more than decay"
    assert not equal(weights(model.autoencoder), weights(fit_without(config, tmp_path).autoencoder))


def fit_without(config: dict[str, Any], folder: Path) -> AutoencoderModule:
    model = module(config, discriminator=None)
    fit(model, folder, 3)
    return model


def test_the_start_counts_optimiser_steps_not_batches(tmp_path: Path) -> None:
    terms = Record(lambda model: float(model.last_terms["discriminator"]))
    fit(module(adversarial_start=2), tmp_path, 3, accumulate_grad_batches=2, callbacks=[terms])
    assert [value > 0 for value in terms.seen] == [False] * 4 + [True] * 2


def test_a_resumed_run_knows_whether_the_discriminator_has_started(tmp_path: Path) -> None:
    straight, first, second = (module(adversarial_start=1) for _ in range(3))
    fit(straight, tmp_path, 4)
    saving = ModelCheckpoint(dirpath=tmp_path, filename="half", every_n_train_steps=2)
    fit(first, tmp_path, 2, enable_checkpointing=True, callbacks=[saving])
    fit(second, tmp_path, 4, resume=tmp_path / "half.ckpt")
    for (name, expected), found in zip(straight.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)


def test_there_are_two_groups_of_parameters_the_autoencoders_first() -> None:
    model = module()
    first, second = model.configure_optimizers().param_groups
    assert [id(p) for p in first["params"]] == [id(p) for p in model.autoencoder.parameters()]
    assert [id(p) for p in second["params"]] == [id(p) for p in model.discriminator.parameters()]
    assert len(module(discriminator=None).configure_optimizers().param_groups) == 1


def norm(network: torch.nn.Module) -> float:
    return float(torch.nn.utils.get_total_norm([p.grad for p in network.parameters()]))


def largest(network: torch.nn.Module) -> float:
    return max(float(p.grad.abs().max()) for p in network.parameters())


@pytest.mark.parametrize(
    ("settings", "size", "autoencoders", "discriminators"),
    [
        ({"gradient_clip_val": 2.0}, norm, 1.0, 2.0),
        ({"gradient_clip_val": 2.0, "gradient_clip_algorithm": "norm"}, norm, 1.0, 2.0),
        ({"gradient_clip_val": 0.5, "gradient_clip_algorithm": "norm"}, norm, 0.5, 0.5),
        ({"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}, largest, 1e-3, 1e-3),
        ({"gradient_clip_val": None}, norm, 1.0, 1000.0),
    ],
    ids=["norm by default", "norm", "both", "value", "none"],
)
def test_gradients_are_clipped_for_each_network_on_its_own(
    settings: dict[str, Any], size: Any, autoencoders: float, discriminators: float, tmp_path: Path
) -> None:
    """The autoencoder's gradient has the norm 1, the discriminator's 1000."""
    model = module()
    run = trainer(tmp_path, **settings)
    run.strategy.connect(model)
    model.trainer = run
    optimiser = model.configure_optimizers()
    for network, length in ((model.autoencoder, 1.0), (model.discriminator, 1000.0)):
        count = sum(p.numel() for p in network.parameters())
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, length / count**0.5)
    model.configure_gradient_clipping(optimiser, run.gradient_clip_val, run.gradient_clip_algorithm)
    assert size(model.autoencoder) == pytest.approx(autoencoders, rel=1e-4)
    assert size(model.discriminator) == pytest.approx(discriminators, rel=1e-4)
    assert len(optimiser.param_groups) == 2


@BOTH
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_mixed_precision_accumulation_and_clipping_go_together(
    config: dict[str, Any], algorithm: str, tmp_path: Path
) -> None:
    model = module(config, adversarial_start=1)
    settings = {"precision": "bf16-mixed", "accumulate_grad_batches": 2, "gradient_clip_algorithm": algorithm}
    terms = Record(lambda m: m.last_terms)
    run = fit(
        model,
        tmp_path,
        3,
        **settings,
        gradient_clip_val=0.1,
        limit_val_batches=1,
        val_check_interval=2,
        callbacks=terms,
    )
    assert run.global_step == 3
    assert all(value.dtype == torch.float32 and value.isfinite() for seen in terms.seen for value in seen.values())
    assert terms.seen[-1]["adversarial"] != 0
    assert all(value.isfinite().all() for value in model.parameters())
    assert run.callback_metrics["val/balanced_mae"].isfinite()


class Broken(torch.nn.Module):
    def forward(self, *_: Any) -> Any:
        raise RuntimeError("out of memory")


def test_the_discriminator_stays_trainable_whatever_happens(batch: Sample) -> None:
    model = module()
    model.loss(batch)
    assert all(p.requires_grad for p in model.discriminator.parameters())
    model.discriminator.final_conv = Broken()
    with pytest.raises(RuntimeError, match="out of memory"):
        model.loss(batch)
    assert all(p.requires_grad for p in model.discriminator.parameters())


def test_the_loss_can_be_looked_at_without_gradients(batch: Sample) -> None:
    model = module()
    with torch.no_grad():
        terms = model.loss(batch)
    assert terms["adversarial"] == 0
    torch.testing.assert_close(terms["discriminator"], model.loss(batch)["discriminator"].detach())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of an autoencoder that was trained for three steps with a discriminator."""
    saving = ModelCheckpoint(dirpath=tmp_path, filename="first", every_n_train_steps=3)
    fit(module(), tmp_path, 3, enable_checkpointing=True, callbacks=[saving])
    return tmp_path / "first.ckpt"


def test_later_stages_take_the_autoencoder_and_leave_the_discriminator(checkpoint: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True)
    assert any(name.startswith("discriminator.") for name in saved["state_dict"])
    assert saved["hyper_parameters"]["discriminator"] == PATCH
    later = diffusion(VQ, scale=False)
    later.init_from(checkpoint)
    for name, value in later.autoencoder.state_dict().items():
        assert torch.equal(value, saved["state_dict"][f"autoencoder.{name}"]), name
    assert not any("discriminator" in name for name in later.state_dict())


def test_a_config_without_discriminator_tests_a_model_that_was_trained_with_one(
    checkpoint: Path, tmp_path: Path, batch: Sample
) -> None:
    images = []
    for arguments in ({}, {"discriminator": None}):
        run = trainer(tmp_path, limit_test_batches=1)
        model = module(**arguments)
        run.test(model, datamodule=ToyData(batch), ckpt_path=checkpoint, weights_only=True, verbose=False)
        with torch.no_grad():
            images.append(model.synthesise(batch))
    assert torch.equal(*images)
    alone = AutoencoderModule.load_from_checkpoint(checkpoint, weights_only=True)
    assert isinstance(alone.discriminator, torch.nn.Module)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adversarial_weight": -0.1}, "adversarial_weight is -0.1; expected at least 0"),
        ({"adversarial_weight": float("nan")}, "adversarial_weight is nan"),
        ({"adversarial_start": -1}, "adversarial_start is -1"),
        ({"adversarial_weight": -1.0, "adversarial_start": -1}, r"(?s)adversarial_weight is .*adversarial_start is"),
        ({"discriminator": {**PATCH, "_class_name": "Discriminator"}}, "expected one of .*PatchDiscriminator"),
        ({"discriminator": {**PATCH, "num_layers": 2}}, "did you mean num_layers_d"),
        ({"discriminator": {**PATCH, "norm": "BATCH"}}, r"discriminator\.norm follows from the data \(INSTANCE\)"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module(**arguments)


def test_the_weights_of_the_autoencoder_do_not_depend_on_the_discriminator() -> None:
    """Same seed, same start: runs with and without one can be compared."""
    assert equal(weights(module().autoencoder), weights(module(discriminator=None).autoencoder))
