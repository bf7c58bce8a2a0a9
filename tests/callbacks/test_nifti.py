"""Predictions as NIfTI in the geometry of the input: a tilted volume whose first axis runs to the left."""

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from samples import (
    SIZE,
    SlabData,
    ToyData,
    autoencoder,
    diffusion,
    oblique_las,
    random_batch,
    segmenter,
    select,
    trainer,
)
from torch import Tensor

from ctp_ldm.callbacks import Evaluation, NIfTIWriter
from ctp_ldm.callbacks.nifti import OtherPredictions
from ctp_ldm.callbacks.volumes import NonFiniteOutput
from ctp_ldm.forms import Forms
from ctp_ldm.geometry import Geometry
from ctp_ldm.modules import TranslationModule
from ctp_ldm.sample import Sample

FREE_TEXT = ("descrip", "aux_file", "intent_name", "db_name")

DEPTH = 6


def predict(module: TranslationModule, data: ToyData, folder: Path, **arguments: Any) -> Path:
    run = trainer(folder, callbacks=[NIfTIWriter()])
    run.predict(module, datamodule=data, return_predictions=False, **arguments)
    return folder / "predictions"


@pytest.fixture
def two_cases() -> Sample:
    """Slices 1–3 of two cases, alternating."""
    batch = random_batch(6)
    batch["case"] = ["a", "b"] * 3
    batch["slice_index"] = torch.tensor([1, 1, 2, 2, 3, 3])
    return batch


def physical(module: TranslationModule, batch: Sample) -> Tensor:
    with torch.no_grad():
        return module.eval().predict_step(batch, 0)["image"]


def test_volumes_have_the_shape_and_affine_of_the_input_and_values_at_their_place(
    two_cases: Sample, tmp_path: Path
) -> None:
    module = autoencoder()
    batches = [select(two_cases, [0, 1, 2]), select(two_cases, [3, 4]), select(two_cases, [5])]
    folder = predict(module, ToyData(*batches, depth=DEPTH), tmp_path)
    expected = physical(module, two_cases).numpy()
    for offset, case in enumerate("ab"):
        for channel, name in enumerate(("dwi", "adc")):
            volume = nib.load(folder / case / f"{case}_desc-synthetic_{name}.nii.gz")
            assert volume.shape == (*SIZE, DEPTH)
            np.testing.assert_allclose(volume.affine, oblique_las(), atol=1e-5)
            values = volume.get_fdata()
            for z in (1, 2, 3):
                # The grid runs to the right, the file to the left.
                slice_ = expected[2 * (z - 1) + offset, channel][::-1]
                np.testing.assert_allclose(values[:, :, z], slice_, rtol=1e-5, atol=1e-5)
            assert not values[:, :, [0, 4, 5]].any()
            assert values.any()


def test_headers_say_where_and_what_it_is(two_cases: Sample, tmp_path: Path) -> None:
    folder = predict(autoencoder(), ToyData(two_cases), tmp_path)
    header = nib.load(folder / "a" / "a_desc-synthetic_adc.nii.gz").header
    assert header.get_xyzt_units()[0] == "mm"
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 3)  # the input's, and none invented
    np.testing.assert_allclose(header.get_qform(), oblique_las(), atol=1e-4)
    assert b"synthetic" in bytes(header["descrip"])
    assert header.get_data_dtype() == np.float32


def test_sidecars_name_unit_model_checkpoint_and_sampling(two_cases: Sample, tmp_path: Path) -> None:
    module = diffusion(sampling_seed=5, steps=4)
    run = trainer(tmp_path)
    run.strategy.connect(module)
    run.save_checkpoint(tmp_path / "best.ckpt")
    folder = predict(module, ToyData(two_cases), tmp_path, ckpt_path=tmp_path / "best.ckpt", weights_only=True)
    sidecars = {
        name: json.loads((folder / "b" / f"b_desc-synthetic_{name}.json").read_text()) for name in ("dwi", "adc")
    }
    assert {name: sidecar["Units"] for name, sidecar in sidecars.items()} == {"dwi": "relative", "adc": "10⁻⁶ mm²/s"}
    adc = sidecars["adc"]
    assert (adc["Case"], adc["Channel"]) == ("b", "adc")
    assert (adc["SamplingSeed"], adc["SamplingSteps"]) == (5, 4)
    assert adc["Model"] == "ctp_ldm.modules.diffusion.LatentDiffusionModule"
    assert "synthetic" in adc["Description"]
    assert adc["Checkpoint"] == "best.ckpt"  # not where it lies
    assert adc["CheckpointSHA256"] == hashlib.sha256((tmp_path / "best.ckpt").read_bytes()).hexdigest()


class ReadFromFile(ToyData):
    """Its geometry comes from a file whose header names the patient."""

    def geometry(self, case: str) -> Geometry:
        own = super().geometry(case)
        image = nib.Nifti1Image(np.zeros(own.shape, np.float32), np.asarray(own.affine))
        for field in FREE_TEXT:
            image.header[field] = b"Jane Doe"
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe, born 1950"))
        return replace(own, forms=Forms.of(image.header, "mm"))


def test_no_text_of_the_inputs_header_is_carried_over(two_cases: Sample, tmp_path: Path) -> None:
    folder = predict(autoencoder(), ReadFromFile(two_cases), tmp_path)
    files = sorted(folder.rglob("*"))
    assert any(file.suffix == ".json" for file in files)
    for file in files:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else b""
        content = file.read_bytes() if file.suffix == ".json" else content
        assert b"Jane" not in content
        assert str(tmp_path).encode() not in content
    image = nib.load(folder / "a" / "a_desc-synthetic_adc.nii.gz")
    assert {field: bytes(image.header[field].item()) for field in FREE_TEXT} == {
        "descrip": b"synthetic, for research use",
        "aux_file": b"",
        "intent_name": b"",
        "db_name": b"",
    }
    assert not image.header.extensions


def test_a_segmenters_masks_are_where_its_probability_is_above_the_cutoff(two_cases: Sample, tmp_path: Path) -> None:
    module = segmenter(inputs="source", threshold=0.9)
    probability = physical(module, two_cases)
    evaluation = Evaluation()
    evaluation.cutoff = cutoff = round(float(probability[probability > 0].median()), 3)
    run = trainer(tmp_path, callbacks=[NIfTIWriter(), evaluation])
    run.predict(module, datamodule=ToyData(two_cases, depth=DEPTH), return_predictions=False)
    folder = tmp_path / "predictions" / "a"
    mask, values = (nib.load(folder / f"a_desc-{name}_lesion.nii.gz") for name in ("found", "synthetic"))
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.get_fdata(), values.get_fdata() > cutoff)
    assert 0.3 < mask.get_fdata().sum() / (values.get_fdata() > 0).sum() < 0.7
    assert json.loads((folder / "a_desc-found_lesion.json").read_text())["Cutoff"] == cutoff
    assert "Cutoff" not in json.loads((folder / "a_desc-synthetic_lesion.json").read_text())


def test_masks_of_slabs_have_the_volume_of_what_was_found(two_cases: Sample, tmp_path: Path) -> None:
    module = segmenter(inputs="source", threshold=0.9)
    probability = physical(module, two_cases)[::2]
    module.threshold = float(probability[probability > 0].median())
    folder = predict(module, SlabData(two_cases, depth=DEPTH), tmp_path)
    mask = nib.load(folder / "a" / "a_desc-found_lesion.nii.gz").get_fdata()
    assert set(np.unique(mask)) == {0, 1}
    assert mask.sum() / 4 == pytest.approx(float((probability > module.threshold).sum()), rel=0.15)


def test_only_whole_files_are_left(two_cases: Sample, tmp_path: Path) -> None:
    folder = predict(autoencoder(), ToyData(two_cases), tmp_path)
    files = sorted(path.name for path in (folder / "a").iterdir())
    assert files == [f"a_desc-synthetic_{name}.{end}" for name in ("adc", "dwi") for end in ("json", "nii.gz")]


def saved(module: TranslationModule, path: Path) -> Path:
    run = trainer(path.parent)
    run.strategy.connect(module)
    run.save_checkpoint(path)
    return path


def test_predictions_of_two_models_are_never_mixed(two_cases: Sample, tmp_path: Path) -> None:
    first, second = autoencoder(), autoencoder()
    with torch.no_grad():
        next(second.parameters()).mul_(2)
    ours, theirs = saved(first, tmp_path / "ours.ckpt"), saved(second, tmp_path / "theirs.ckpt")
    data = ToyData(two_cases)
    folder = predict(first, data, tmp_path, ckpt_path=ours, weights_only=True)
    before = {path: path.read_bytes() for path in folder.rglob("*.nii.gz")}
    with pytest.raises(
        OtherPredictions, match=r"another checkpoint \(2 cases, such as \['a', 'b'\]\).*default_root_dir"
    ):
        predict(second, data, tmp_path, ckpt_path=theirs, weights_only=True)
    assert {path: path.read_bytes() for path in folder.rglob("*.nii.gz")} == before
    predict(first, data, tmp_path, ckpt_path=ours, weights_only=True)


def test_images_that_are_not_made_again_do_not_stay(two_cases: Sample, tmp_path: Path) -> None:
    """A deviation of more samples beside a synthetic image of one would be another model's."""
    folder = predict(diffusion(samples=2, steps=2), ToyData(two_cases), tmp_path)
    assert (folder / "a" / "a_desc-deviation_adc.nii.gz").is_file()
    note = folder / "a" / "reading.txt"
    note.write_text("my own")
    predict(diffusion(steps=2), ToyData(two_cases), tmp_path)
    assert not list((folder / "a").glob("*deviation*"))
    assert note.is_file()


def test_an_output_that_is_no_number_is_no_image(two_cases: Sample, tmp_path: Path) -> None:
    module = autoencoder()
    with torch.no_grad():
        next(module.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteOutput, match=r"not finite in \d of \d slices \(a slice 1"):
        predict(module, ToyData(two_cases), tmp_path)
    assert not list((tmp_path / "predictions").rglob("*.nii.gz"))


class OneSliceLost(ToyData):
    """Case b should have had one more slice."""

    def slices_with_brain(self, case: str) -> int:
        return super().slices_with_brain(case) + (case == "b")


def test_a_half_finished_case_is_an_error_and_no_file(two_cases: Sample, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"slices are missing: \['b'\]"):
        predict(autoencoder(), OneSliceLost(two_cases), tmp_path)
    assert (tmp_path / "predictions" / "a" / "a_desc-synthetic_dwi.nii.gz").is_file()
    assert not (tmp_path / "predictions" / "b").exists()


def test_slabs_are_written_on_every_slice_of_the_input_and_say_how_thick_they_are(
    two_cases: Sample, tmp_path: Path
) -> None:
    module, data = autoencoder(), SlabData(two_cases, depth=DEPTH)
    folder = predict(module, data, tmp_path) / "a"
    image = nib.load(folder / "a_desc-synthetic_adc.nii.gz")
    assert image.shape == (*SIZE, 4 * DEPTH)
    np.testing.assert_allclose(image.affine, data.geometry("a").affine, atol=1e-5)
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 3)
    expected, brain = physical(module, two_cases).numpy()[::2, 1], two_cases["brain"][0, 0].numpy() > 0
    values = image.get_fdata()[::-1]
    assert not values[~brain].any()
    middles = 4 * np.arange(1, 4) + 1.5
    between = np.array([[np.interp(z, middles, v) for z in range(4, 16)] for v in expected[:, brain].T])
    np.testing.assert_allclose(values[brain][:, 4:16], between, rtol=1e-4, atol=1e-3)
    assert not values[:, :, :4].any()
    assert not values[:, :, 16:].any()
    sidecar = json.loads((folder / "a_desc-synthetic_adc.json").read_text())
    assert sidecar["EffectiveSliceThickness"] == 5.0
    assert sidecar["SliceNote"].startswith("made as slabs of 5 mm; slices 1.25 mm apart are interpolated")


def test_slices_as_they_came_say_their_thickness_and_no_more(two_cases: Sample, tmp_path: Path) -> None:
    folder = predict(autoencoder(), ToyData(two_cases), tmp_path)
    sidecar = json.loads((folder / "a" / "a_desc-synthetic_adc.json").read_text())
    assert sidecar["EffectiveSliceThickness"] == 5.0
    assert "SliceNote" not in sidecar
