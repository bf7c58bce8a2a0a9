"""The condition as a choice of the model: trained, averaged, kept, started from and refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from samples import (
    DENOISER,
    ENCODER,
    KL,
    PIXELS,
    SPACE_TO_DEPTH,
    ToyData,
    autoencoder,
    diffusion,
    optimizer,
    posttrain,
    random_batch,
    trainer,
)
from torch import nn
from torch.nn import functional as F

from ctp_ldm.callbacks import EMA
from ctp_ldm.losses import Adversarial, RegionError
from ctp_ldm.modules import LatentDiffusionModule, LesionAwarePostTraining, TranslationModule
from ctp_ldm.networks import ConfigError
from ctp_ldm.runs import CheckpointError
from ctp_ldm.sample import Sample

CONDITIONS: dict[str, dict[str, Any] | None] = {"mean": None, "space to depth": SPACE_TO_DEPTH, "encoder": ENCODER}
BRIDGE: dict[str, Any] = {"scheduler": {"_class_name": "BrownianBridgeScheduler"}, "steps": 3}
FIRST = "condition.blocks.0.weight"
EACH = pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)


@pytest.fixture
def batch() -> Sample:
    return random_batch()


def total(module: TranslationModule, batch: Sample) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.stack(list(module.loss(batch).values())).sum()


def saved(module: TranslationModule, path: Path) -> Path:
    saver = trainer(path.parent, max_steps=0)
    saver.strategy.connect(module)
    saver.save_checkpoint(path)
    return path


def fitted(module: TranslationModule, folder: Path, steps: int = 3, **settings: Any) -> None:
    data = ToyData(*(random_batch(seed=i) for i in range(2)))  # two: after so many steps, resuming starts an epoch
    trainer(folder, max_steps=steps, **settings).fit(module, datamodule=data)


def test_by_default_nothing_is_other_than_before_there_was_a_choice(batch: Sample) -> None:
    """The denoiser sees the pooled source, no weight and no word of a record is new."""
    module = diffusion().eval()
    seen: list[torch.Tensor] = []
    module.denoiser.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    total(module, batch)
    assert torch.equal(seen[0][:, 3:], F.avg_pool2d(batch["source"], 2))
    assert not [name for name in module.state_dict() if name.startswith(("condition", "source_mean"))]
    assert set(module.describe()) == {"autoencoder", "denoiser", "scheduler", "sampling"}
    assert torch.equal(total(diffusion(condition={"_class_name": "SourceMean"}), batch), total(diffusion(), batch))


@pytest.mark.parametrize(
    ("condition", "channels"), list(zip(CONDITIONS.values(), (3, 12, 8), strict=True)), ids=CONDITIONS
)
def test_the_denoiser_takes_what_the_condition_gives(
    condition: dict[str, Any] | None, channels: int, batch: Sample
) -> None:
    module = diffusion(condition=condition).eval()
    assert module.denoiser.config["in_channels"] == 3 + channels
    assert module.condition(batch["source"]).shape == (4, channels, 8, 12)
    with torch.no_grad():
        image = module.predict_step(batch, 0)["image"]
        changed = module.predict_step({**batch, "source": -batch["source"]}, 0)["image"]
    assert image.shape == batch["target"].shape
    assert image.isfinite().all()
    assert not torch.allclose(image, changed)


@pytest.mark.parametrize("make", [diffusion, posttrain])
def test_gradients_reach_the_encoder(make: Any, batch: Sample) -> None:
    """From the latent terms, and from decoded ones alone."""
    decoded = {"latent_weight": 0.0, "terms": [RegionError("lesion", 1.0)]} if make is posttrain else {}
    module = make(condition=ENCODER, **decoded)
    total(module, batch).backward()
    for name, value in module.condition.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


@pytest.mark.parametrize("terms", [False, True], ids=["no terms", "a term that is trained"])
def test_the_optimiser_trains_it_with_the_denoiser(terms: bool, tmp_path: Path) -> None:
    patch = {"_class_name": "PatchDiscriminator", "channels": 4, "num_layers_d": 1}
    more = {"terms": [Adversarial(0.01, patch)]} if terms else {}
    module = posttrain(condition=ENCODER, optimizer=optimizer(0.01), **more)
    networks: tuple[nn.Module, ...] = (module.denoiser, module.condition)
    expected = {id(value) for network in networks for value in network.parameters()}
    if terms:
        (group,) = [group for group in module.parameter_groups() if group["name"] == "denoiser"]
        assert {id(value) for value in group["params"]} == expected
    else:
        assert {id(value) for value in module.parameter_groups()} == expected
    before = module.state_dict()[FIRST].clone()
    fitted(module, tmp_path, steps=1)
    assert not torch.equal(module.state_dict()[FIRST], before)


def test_it_is_trained_in_mixed_precision_too(tmp_path: Path) -> None:
    module = diffusion(condition=ENCODER, optimizer=optimizer(0.01))
    fitted(module, tmp_path, precision="bf16-mixed", gradient_clip_val=1.0)
    assert all(value.isfinite().all() for value in module.condition.parameters())
    assert not torch.equal(module.state_dict()[FIRST], diffusion(condition=ENCODER).state_dict()[FIRST])


def test_averages_hold_the_encoder(tmp_path: Path) -> None:
    path = tmp_path / "base.ckpt"
    module = diffusion(condition=ENCODER, optimizer=optimizer(0.05))
    saving = ModelCheckpoint(dirpath=tmp_path, filename="base", every_n_train_steps=3)
    fitted(module, tmp_path, callbacks=[EMA(0.9), saving], enable_checkpointing=True)
    content = torch.load(path, weights_only=True)
    average, last = content["state_dict"][FIRST], content["ema"]["weights"][FIRST]
    assert not torch.equal(average, last)
    assert torch.equal(module.state_dict()[FIRST], average)  # left in the module
    post = posttrain(condition=ENCODER, scale=False)
    post.init_from(path)
    assert torch.equal(post.state_dict()[FIRST], average)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does_to_the_bit(tmp_path: Path) -> None:
    straight, first, second = (diffusion(condition=ENCODER, optimizer=optimizer(0.01)) for _ in range(3))
    fitted(straight, tmp_path, steps=4, callbacks=[EMA(0.9)])
    saving = ModelCheckpoint(dirpath=tmp_path, filename="half", every_n_train_steps=2)
    fitted(first, tmp_path, steps=2, callbacks=[EMA(0.9), saving], enable_checkpointing=True)
    data = ToyData(*(random_batch(seed=i) for i in range(2)))
    run = trainer(tmp_path, max_steps=4, callbacks=[EMA(0.9)])
    run.fit(second, datamodule=data, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for name, value in straight.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    assert not torch.equal(first.state_dict()[FIRST], straight.state_dict()[FIRST])


@EACH
def test_a_checkpoint_loads_alone_and_starts_post_training(
    condition: dict[str, Any] | None, batch: Sample, tmp_path: Path
) -> None:
    base = diffusion(condition=condition)
    path = saved(base, tmp_path / "base.ckpt")
    alone = LatentDiffusionModule.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    post = posttrain(condition=condition, scale=False)
    for value in post.denoiser.parameters():
        nn.init.zeros_(value)
    post.init_from(path)
    with torch.no_grad():
        expected = base.eval().synthesise(batch)
        assert torch.equal(alone.synthesise(batch), expected)
        assert torch.equal(post.eval().synthesise(batch), expected)


WIDER = {**ENCODER, "block_out_channels": [16]}


@pytest.mark.parametrize(
    ("base", "mine", "message"),
    [
        (None, ENCODER, r"condition\._class_name is SourceMean there, ConditionEncoder here"),
        (ENCODER, None, r"condition\._class_name is ConditionEncoder there, SourceMean here"),
        (SPACE_TO_DEPTH, ENCODER, r"condition\._class_name is SpaceToDepth there, ConditionEncoder here"),
        (ENCODER, WIDER, r"condition\.block_out_channels is \[8\] there, \[16\] here"),
        (ENCODER, {**ENCODER, "norm_num_groups": 2}, r"condition\.norm_num_groups is 4 there, 2 here"),
    ],
)
def test_a_base_of_another_condition_is_refused(
    base: dict[str, Any] | None, mine: dict[str, Any] | None, message: str, tmp_path: Path
) -> None:
    path = saved(diffusion(condition=base), tmp_path / "base.ckpt")
    for module in (posttrain(condition=mine, scale=False), diffusion(condition=mine)):
        refuse = module.init_from if isinstance(module, LesionAwarePostTraining) else module.require_own
        with pytest.raises(CheckpointError, match=message):
            refuse(path)


def test_any_condition_goes_with_any_autoencoder(tmp_path: Path) -> None:
    path = saved(autoencoder(), tmp_path / "autoencoder.ckpt")
    for condition in CONDITIONS.values():
        diffusion(condition=condition, scale=False).init_from(path)


def test_a_checkpoint_of_before_means_the_mean(batch: Sample, tmp_path: Path) -> None:
    """It has neither the key of the config nor that of the record."""
    path = saved(diffusion(), tmp_path / "base.ckpt")
    content = torch.load(path, weights_only=True)
    del content["hyper_parameters"]["condition"]
    assert "condition" not in content["ctp_ldm"]
    torch.save(content, path)
    module = LatentDiffusionModule.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    with torch.no_grad():
        assert torch.equal(module.synthesise(batch), diffusion().eval().synthesise(batch))
    with pytest.raises(CheckpointError, match=r"condition\._class_name is SourceMean there"):
        posttrain(condition=ENCODER, scale=False).init_from(path)


@EACH
def test_a_bridge_ends_in_the_map_of_the_mean_whatever_the_condition_is(
    condition: dict[str, Any] | None, batch: Sample
) -> None:
    """So that its end stays where it was when the encoder moves."""
    module, usual = diffusion(condition=condition, **BRIDGE).eval(), diffusion(**BRIDGE).eval()
    assert module.source_map.shape == (3, 3, 1, 1)
    torch.testing.assert_close(module.endpoint(batch["source"]), usual.endpoint(batch["source"]))
    mean = F.avg_pool2d(batch["source"], 2)
    expected = F.conv2d(mean, module.source_map, module.source_shift)
    assert torch.equal(module.endpoint(batch["source"]), expected)
    with torch.no_grad():
        assert module.synthesise(batch).isfinite().all()


def test_in_pixel_space_there_is_nothing_to_reduce(batch: Sample) -> None:
    for condition in (None, SPACE_TO_DEPTH):
        module = diffusion(PIXELS, condition=condition)
        assert torch.equal(module.condition(batch["source"]), batch["source"])
    with pytest.raises(ConfigError, match="expected SourceMean or SpaceToDepth instead"):
        diffusion(PIXELS, condition=ENCODER)


def test_behind_an_unshuffle_the_encoder_ends_at_the_latent_grid(batch: Sample) -> None:
    behind = {**KL, "unshuffle": 2}
    module = diffusion(behind, condition={**ENCODER, "block_out_channels": [4, 8]}).eval()
    with torch.no_grad():
        assert module.condition(batch["source"]).shape == (4, 8, 4, 6)
        assert module.synthesise(batch).shape == batch["target"].shape
    with pytest.raises(
        ConfigError, match=r"condition\.block_out_channels is \[8\], .* 2 times smaller; expected length 2.* 4 times"
    ):
        diffusion(behind, condition=ENCODER)


def test_a_misspelt_channel_of_the_denoiser_is_still_told(batch: Sample) -> None:
    with pytest.raises(ConfigError, match=r"denoiser\.in_channels follows from the data \(11\)"):
        diffusion(condition=ENCODER, denoiser={**DENOISER, "in_channels": 6})
