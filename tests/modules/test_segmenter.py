"""Finding lesions: on real images, on synthetic ones, in CT directly, and by the clinic's rule."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import SPEC, ToyData, optimizer, random_batch, segmenter, trainer

from ctp_ldm.modules import FlowThreshold, LesionReader
from ctp_ldm.networks import ConfigError
from ctp_ldm.runs import CheckpointError
from ctp_ldm.sample import Sample
from ctp_ldm.scaling import Linear
from ctp_ldm.spec import Channel, DataSpec, SpecMismatch


@pytest.fixture
def batch() -> Sample:
    """The lesion is bright in DWI and invisible in the source."""
    made = random_batch()
    made["target"][:, :1] += 2 * made["lesion"]
    return made


def test_it_learns_where_the_lesion_is(batch: Sample, tmp_path: Path) -> None:
    module = segmenter(optimizer=optimizer(0.02))
    torch.manual_seed(0)
    trainer(tmp_path, max_steps=60, max_epochs=-1).fit(module, datamodule=ToyData(batch))
    with torch.no_grad():
        found = module.eval().found(module.predict_step(batch, 0))
    reference = batch["lesion"] > 0
    assert 2 * (found & reference).sum() / (found.sum() + reference.sum()) > 0.95


def test_the_loss_is_dice_and_cross_entropy_in_the_brain(batch: Sample) -> None:
    """By hand: soft Dice over the batch, and the mean of −log p; outside the brain p is 6e-6."""
    module = segmenter(dice_weight=0.5, ce_weight=2.0).eval()
    probability = torch.sigmoid(module._logits(batch))
    lesion = batch["lesion"] * batch["brain"]
    dice = 1 - (2 * (probability * lesion).sum() + 1e-5) / (probability.sum() + lesion.sum() + 1e-5)
    entropy = -(lesion * probability.log() + (1 - lesion) * (1 - probability).log()).mean()
    torch.testing.assert_close(module.loss(batch)["dice_ce"], 0.5 * dice + 2 * entropy, rtol=1e-4, atol=1e-5)


def test_what_lies_outside_the_brain_is_hidden(batch: Sample) -> None:
    module = segmenter().eval()
    other = {**batch, "target": torch.where(batch["brain"] > 0, batch["target"], torch.tensor(0.7))}
    with torch.no_grad():
        found = module.predict_step(batch, 0)["image"]
        assert torch.equal(found, module.predict_step(other, 0)["image"])  # type: ignore[arg-type]
    assert not found[batch["brain"] == 0].any()


def test_the_direct_rival_sees_the_source_only(batch: Sample) -> None:
    module = segmenter(inputs="source").eval()
    with torch.no_grad():
        found = module.predict_step(batch, 0)["image"]
        assert torch.equal(found, module.predict_step({**batch, "target": batch["target"] + 1}, 0)["image"])  # type: ignore[typeddict-item]
        assert not torch.equal(found, module.predict_step({**batch, "source": -batch["source"]}, 0)["image"])  # type: ignore[typeddict-item]


def saved(module: Any, path: Path) -> Path:
    saver = trainer(path.parent, max_steps=0)
    saver.strategy.connect(module)
    saver.save_checkpoint(path)
    return path


def test_a_reader_finds_in_physical_units_what_the_module_finds(batch: Sample, tmp_path: Path) -> None:
    module = segmenter(threshold=0.4, feature_layer="model.0").eval()
    reader = LesionReader(saved(module, tmp_path / "reader.ckpt"), SPEC)
    clipped: Any = {**batch, "target": batch["target"].clamp(-1, 1)}  # physical values are those of the range
    with torch.no_grad():
        expected = module.found(module.predict_step(clipped, 0)) & (batch["brain"] > 0)
        probability, features = reader.read(SPEC.decode_target(batch["target"]), batch["brain"])
    assert expected.any()
    assert torch.equal(probability > reader.threshold, expected)
    assert not probability[batch["brain"] == 0].any()
    assert features is not None
    assert features.shape == (4, 8), "channels of the first layer"


def test_it_knows_the_patients_it_was_trained_on_without_their_names(batch: Sample, tmp_path: Path) -> None:
    class Data(ToyData):
        parts = {"train": ["case", "other"]}

    module = segmenter(optimizer=optimizer(0.01))
    running = trainer(tmp_path, max_steps=1)
    running.fit(module, datamodule=Data(batch))
    running.save_checkpoint(tmp_path / "reader.ckpt")
    assert b"other" not in (tmp_path / "reader.ckpt").read_bytes()
    reader = LesionReader(tmp_path / "reader.ckpt", SPEC)
    assert reader.seen(["new", "other", "case"]) == ["other", "case"]


def test_a_segmenter_of_other_scalings_is_refused(tmp_path: Path) -> None:
    path = saved(segmenter(), tmp_path / "reader.ckpt")
    scaled = (SPEC.target[0], Channel("adc", Linear("10⁻⁶ mm²/s", 0.0, 2000.0)))
    with pytest.raises(SpecMismatch, match="scaling of target adc"):
        LesionReader(path, replace(SPEC, target=scaled))
    other_source = replace(SPEC, source=SPEC.source[:1])
    assert LesionReader(path, other_source).path == path, "it does not look at the source"


def test_another_network_than_the_checkpoints_is_refused(tmp_path: Path) -> None:
    path = saved(segmenter(), tmp_path / "reader.ckpt")
    with pytest.raises(CheckpointError, match="inputs is target there, source here"):
        segmenter(inputs="source").require_own(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"threshold": 1.0}, "threshold is 1.0"), ({"feature_layer": "deep"}, "feature_layer is 'deep'; expected one of")],
)
def test_settings_without_meaning_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        segmenter(**arguments)


MAPS = DataSpec(
    source=(Channel("cbf", Linear("mL/100 g/min", 0.0, 120.0)), Channel("tmax", Linear("s", 0.0, 20.0))),
    target=SPEC.target,
    spacing=3.0,
    size=(2, 3),
)


def test_low_flow_is_core_by_hand() -> None:
    """Normal tissue has 50: below 19 is core. The late voxel of 10 does not count as normal; outside nothing does."""
    flow = torch.tensor([[50.0, 50.0, 50.0], [18.9, 10.0, 1.0]])
    delay = torch.tensor([[2.0, 2.0, 2.0], [2.0, 8.0, 2.0]])
    brain = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    source = torch.stack([c.scaling.encode(v) for c, v in zip(MAPS.source, (flow, delay), strict=True)])
    sample: Any = {"source": source[None], "brain": brain[None, None]}
    found = FlowThreshold(MAPS.to_plain()).predict_step(sample, 0)["image"]
    assert found[0, 0].tolist() == [[0, 0, 0], [1, 1, 0]]
    assert not FlowThreshold(MAPS.to_plain(), fraction=0.1).predict_step(sample, 0)["image"].any()


def test_a_slice_that_is_late_everywhere_has_no_normal_flow_and_no_core() -> None:
    source = torch.stack([c.scaling.encode(torch.full((2, 3), 15.0)) for c in MAPS.source])
    sample: Any = {"source": source[None], "brain": torch.ones(1, 1, 2, 3)}
    assert not FlowThreshold(MAPS.to_plain()).predict_step(sample, 0)["image"].any()


def test_the_rule_needs_a_map_of_flow() -> None:
    with pytest.raises(ConfigError, match=r"needs a source cbf, found .*add --config tasks/maps\.yaml"):
        FlowThreshold(SPEC.to_plain())
