"""The pipeline gives what the LightningModule gives, in another interpreter too."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler
from samples import SIZE, SPEC, random_batch, select
from torch import Tensor

from ctp_ldm.pipeline import CTPLDMPipeline, write_folder
from ctp_ldm.sample import Sample

from .models import FAMILIES, model, saved


def predicted(family: str, batch: Sample) -> Tensor:
    with torch.no_grad():
        return model(family).predict_step(batch, 0)["image"]


def pipeline(family: str = "KL, DDIM") -> CTPLDMPipeline:
    made = CTPLDMPipeline.from_checkpoint(saved(model(family)))
    made.set_progress_bar_config(disable=True)
    return made


def run(made: CTPLDMPipeline, batch: Sample, **changes: Any) -> Tensor:
    arguments: dict[str, Any] = {
        "brain": batch["brain"],
        "case": batch["case"],
        "slice_index": batch["slice_index"],
        "physical": False,
        **changes,
    }
    images: Tensor = made(batch["source"], **arguments).images
    return images


def decoded_source(batch: Sample) -> Tensor:
    return torch.stack([c.scaling.decode(batch["source"][:, i]) for i, c in enumerate(SPEC.source)], dim=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_module_s_prediction(family: str) -> None:
    batch = random_batch(case="sub-7")
    found = pipeline(family)(batch["source"], batch["brain"], batch["case"], batch["slice_index"], physical=False)
    assert torch.equal(found.images, predicted(family, batch))
    assert (found.channels, found.units) == (["dwi", "adc"], ["relative", "10⁻⁶ mm²/s"])
    assert "synthetic" in found.notice


FRESH = """
import sys
from pathlib import Path

import torch

from ctp_ldm.pipeline import CTPLDMPipeline

batch = torch.load("batch.pt", weights_only=True)
for folder in sorted(Path("folders").iterdir()):
    pipeline = CTPLDMPipeline.from_pretrained(folder)
    torch.save(pipeline(**batch).images, f"{folder.name}.pt")
    pipeline.save_pretrained(Path("again") / folder.name)
assert not [name for name in sys.modules if name.startswith(("ctp_ldm.modules", "ctp_ldm.data", "ctp_ldm.interop"))]
"""


def test_a_fresh_interpreter_predicts_the_same(tmp_path: Path) -> None:
    batch = random_batch(case="sub-7")
    for family in FAMILIES:
        write_folder(saved(model(family)), tmp_path / "folders" / family)
    given = {"source": batch["source"], "brain": batch["brain"], "physical": False, "case": "sub-7"}
    torch.save({**given, "slice_index": batch["slice_index"]}, tmp_path / "batch.pt")
    subprocess.run([sys.executable, "-c", FRESH], cwd=tmp_path, check=True)
    for family in FAMILIES:
        found = torch.load(tmp_path / f"{family}.pt", weights_only=True)
        assert torch.equal(found, predicted(family, batch)), family
        names = [
            sorted(str(p.relative_to(tmp_path / where / family)) for p in (tmp_path / where / family).rglob("*"))
            for where in ("folders", "again")
        ]
        assert names[0] == names[1]
        for path in names[0]:
            first, second = (tmp_path / where / family / path for where in ("folders", "again"))
            if first.suffix == ".safetensors":
                assert first.read_bytes() == second.read_bytes(), path


def test_a_source_in_units_gives_the_same_image() -> None:
    batch, made = random_batch(), pipeline()
    torch.testing.assert_close(made.encode_source(decoded_source(batch)), batch["source"])
    batch["source"] = torch.where(batch["brain"] > 0, batch["source"], -1.0)  # physical 0, as a store has it
    expected = run(made, batch)
    found = run(made, {**batch, "source": decoded_source(batch)}, physical=True)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0.05)
    skull = torch.where(batch["brain"] > 0, decoded_source(batch), 1000.0)
    torch.testing.assert_close(run(made, {**batch, "source": skull}, physical=True), expected, rtol=1e-3, atol=0.05)


def test_a_slice_is_the_same_in_any_batch() -> None:
    batch, made = random_batch(), pipeline()
    whole = run(made, batch)
    torch.testing.assert_close(run(made, select(batch, [2])), whole[2:3], rtol=1e-4, atol=1e-3)
    assert torch.equal(run(made, batch, case="case", slice_index=None), whole)
    assert not torch.allclose(run(made, batch, case="other"), whole)


def test_generators_instead_of_names() -> None:
    batch, made = random_batch(), pipeline("VQ, DDPM")

    def seeded(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    first = run(made, batch, generator=[seeded(i) for i in range(4)])
    assert torch.equal(run(made, batch, generator=[seeded(i) for i in range(4)]), first)
    assert torch.equal(run(made, batch, generator=seeded(1)), run(made, batch, generator=seeded(1)))
    with pytest.raises(ValueError, match="generator: expected one, or 4"):
        run(made, batch, generator=[seeded(1)])


def test_outside_the_brain_there_is_nothing_and_without_it_everything() -> None:
    batch, made = random_batch(), pipeline()
    outside = batch["brain"].expand(-1, 2, -1, -1) == 0
    assert (run(made, batch)[outside] == 0).all()
    assert (run(made, batch, brain=None)[outside] != 0).any()


def test_another_number_of_steps() -> None:
    batch = random_batch()
    expected = model("KL, DDIM", steps=5).predict_step
    with torch.no_grad():
        assert torch.equal(run(pipeline(), batch, num_inference_steps=5), expected(batch, 0)["image"])
    with pytest.raises(ValueError, match="steps is 3, which does not divide num_train_timesteps"):
        run(pipeline(), batch, num_inference_steps=3)
    with pytest.raises(ValueError, match="trained with zero noise for 1 sampling step"):
        run(pipeline("VQ, one step"), batch, num_inference_steps=2)


def test_another_sampler_of_the_same_schedule(tmp_path: Path) -> None:
    batch, made = random_batch(), pipeline()
    made.scheduler = DPMSolverMultistepScheduler.from_config(made.scheduler.config)
    images = run(made, batch, num_inference_steps=4)
    assert images.isfinite().all()
    made.save_pretrained(tmp_path / "folder")
    again = CTPLDMPipeline.from_pretrained(tmp_path / "folder")
    assert torch.equal(run(again, batch, num_inference_steps=4), images)
    made.scheduler = EulerDiscreteScheduler.from_config(made.scheduler.config)
    with pytest.raises(ValueError, match="EulerDiscreteScheduler; expected one of"):
        run(made, batch)


@pytest.mark.parametrize("family", ["KL, DDIM", "KL, space to depth", "KL behind unshuffle, encoder"])
def test_half_precision_is_close(family: str) -> None:
    batch = random_batch()
    error = run(pipeline(family).to(torch.bfloat16), batch) - run(pipeline(family), batch)
    spans = torch.tensor([channel.scaling.span for channel in SPEC.target])
    assert error.dtype == torch.float32
    assert (error.abs().mean(dim=(0, 2, 3)) < 0.02 * spans).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"source": torch.zeros(4, 5, *SIZE)}, r"source is \(4, 5, 16, 24\); expected \(B, 3, H, W\) with channels"),
        ({"source": torch.zeros(3, *SIZE)}, r"source is \(3, 16, 24\)"),
        ({"source": torch.zeros(4, 3, 18, 24)}, r"source is \(18, 24\) pixels; expected multiples of 4.*pad it"),
        ({"source": torch.full((4, 3, *SIZE), torch.nan)}, "no numbers"),
        ({"brain": torch.ones(4, 1, 8, 8)}, r"brain is \(4, 1, 8, 8\); expected \(4, 1, 16, 24\)"),
        ({"case": ["a", "b"]}, "case names 2 and slice_index 4 slices; expected 4"),
        ({"slice_index": [1]}, "case names 4 and slice_index 1 slices; expected 4"),
    ],
)
def test_bad_input_is_refused_in_words(change: dict[str, Any], complaint: str) -> None:
    batch = random_batch()
    source = change.pop("source", batch["source"])
    with pytest.raises(ValueError, match=complaint):
        run(pipeline(), {**batch, "source": source}, **change)


def test_parts_alone_are_no_pipeline(tmp_path: Path) -> None:
    made = pipeline()
    with pytest.raises(ValueError, match="use from_pretrained"):
        CTPLDMPipeline(**made.components)
    made = pipeline("VQ, encoder")
    parts = {**made.components, "condition": None}
    with pytest.raises(ValueError, match="condition is None; the record says that the model has a ConditionEncoder"):
        CTPLDMPipeline(**parts, latents=made.latents, record=made.record)
    with pytest.raises(ValueError, match="push_to_hub"):
        made.save_pretrained(tmp_path / "folder", push_to_hub=True)
