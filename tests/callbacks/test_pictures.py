"""Pictures of the slices that show most, in fixed windows, drawn once."""

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from samples import SPEC, ToyData, autoencoder, random_batch, segmenter, select, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from ctp_ldm.callbacks import Evaluation, Pictures, pictures
from ctp_ldm.display.panels import Panel, Row
from ctp_ldm.sample import Sample


@pytest.fixture
def three_cases() -> Sample:
    """Case a: largest lesion in slice 1. Case b: no lesion, most brain in slice 2. Case c is one too many."""
    batch = random_batch(9)
    batch["case"] = list("aaabbbccc")
    batch["slice_index"] = torch.arange(3).repeat(3)
    batch["lesion"][[0, 2], :, 6:8] = 0
    batch["lesion"][3:] = 0
    batch["brain"][[3, 4], :, :8] = 0
    return batch


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[Row]]:
    """Rows of every figure that is drawn."""
    rows: list[list[Row]] = []
    original = pictures.draw_rows
    monkeypatch.setattr(pictures, "draw_rows", lambda found: (rows.append(found), original(found))[1])
    return rows


def run_test(batch: Sample, folder: Path, *callbacks: Any, module: Any = None) -> None:
    data = ToyData(select(batch, [0, 3, 1, 4]), select(batch, [2, 5, 6, 7, 8]))
    running = trainer(folder, callbacks=[*callbacks, Pictures(2)])
    running.test(module or autoencoder(), datamodule=data, verbose=False)


def panels(row: Row) -> dict[str, Panel]:
    return {panel.title: panel for group in row.groups for panel in group}


def test_the_slice_with_the_largest_lesion_is_drawn_else_that_with_the_most_brain(
    three_cases: Sample, tmp_path: Path, drawn: list[list[Row]]
) -> None:
    run_test(three_cases, tmp_path)
    assert [row.label for row in drawn[0]] == ["a", "b"]
    for row, place in zip(drawn[0], (1, 5), strict=True):
        brain = three_cases["brain"][place, 0].numpy() > 0
        real = SPEC.decode_target(three_cases["target"][place : place + 1])[0]
        phases = torch.stack([c.scaling.decode(three_cases["source"][place, i]) for i, c in enumerate(SPEC.source)])
        for title, expected in (("DWI real", real[0]), ("ADC real", real[1]), ("mean of phases", phases.mean(0))):
            np.testing.assert_allclose(panels(row)[title].image, np.where(brain, expected, np.nan), rtol=1e-5)
        assert np.array_equal(row.lesion, three_cases["lesion"][place, 0].numpy() * brain)
    assert drawn[0][0].lesion.sum() == 24


def test_the_drawn_prediction_is_the_model_s_in_physical_units(
    three_cases: Sample, tmp_path: Path, drawn: list[list[Row]]
) -> None:
    run_test(three_cases, tmp_path)
    with torch.no_grad():
        expected = autoencoder().eval().predict_step(select(three_cases, [1]), 0)["image"][0]
    found = panels(drawn[0][0])
    brain = drawn[0][0].brain
    np.testing.assert_allclose(found["ADC synthetic"].image[brain], expected[1].numpy()[brain], rtol=1e-3, atol=1e-3)
    difference = found["ADC synthetic"].image - found["ADC real"].image
    np.testing.assert_array_equal([g[2] for g in drawn[0][0].groups[1:]][1].image, difference)


def test_windows_are_the_same_for_real_synthetic_and_all_patients(
    three_cases: Sample, tmp_path: Path, drawn: list[list[Row]]
) -> None:
    """ADC is known by its unit; this DWI's is not, so its window is the range that it is scaled by."""
    three_cases["target"][3:] /= 10
    run_test(three_cases, tmp_path)
    for row in drawn[0]:
        _, dwi, adc = row.groups
        assert [(p.low, p.high) for p in dwi] == [(0, 4), (0, 4), (-1, 1)]
        assert [(p.low, p.high) for p in adc] == [(0, 2000), (0, 2000), (-500, 500)]
        assert [p.is_error for p in adc] == [False, False, True]
        assert adc[2].heading == "error\n±500 × 10⁻⁶ mm²/s"


class Painter:
    """A segmenter that finds lesion wherever the first channel is above its middle."""

    path, threshold = Path(__file__), 0.5

    def read(self, images: Tensor, brain: Tensor) -> tuple[Tensor, Tensor | None]:
        return (images[:, :1] > 2) * brain, None

    def seen(self, cases: Any) -> list[str]:
        return []


def test_what_the_segmenter_of_the_evaluation_finds_is_outlined(
    three_cases: Sample, tmp_path: Path, drawn: list[list[Row]]
) -> None:
    evaluation = Evaluation()
    evaluation.reader = Painter()
    run_test(three_cases, tmp_path, evaluation)
    for row in drawn[0]:
        for channel in ("DWI", "ADC"):
            for kind in ("real", "synthetic"):
                expected = np.nan_to_num(panels(row)[f"DWI {kind}"].image) > 2
                assert np.array_equal(panels(row)[f"{channel} {kind}"].found, expected)


def test_a_model_that_finds_lesions_is_drawn_with_its_probability(
    three_cases: Sample, tmp_path: Path, drawn: list[list[Row]]
) -> None:
    run_test(three_cases, tmp_path, module=segmenter())
    row = drawn[0][0]
    assert list(panels(row)) == ["mean of phases", "DWI real", "ADC real", "probability of lesion"]
    probability = panels(row)["probability of lesion"]
    assert np.array_equal(probability.found, np.nan_to_num(probability.image) > 0.5)


def test_a_test_draws_a_readable_picture(three_cases: Sample, tmp_path: Path) -> None:
    run_test(three_cases, tmp_path)
    picture = matplotlib.image.imread(tmp_path / "pictures" / "test.png")
    assert picture.std() > 0.05
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["test.png"]


def test_validation_draws_one_picture_per_check_but_none_for_the_sanity_check(
    tmp_path: Path, drawn: list[list[Row]]
) -> None:
    run = trainer(
        tmp_path,
        max_steps=2,
        limit_val_batches=1,
        num_sanity_val_steps=1,
        val_check_interval=1,
        callbacks=[Pictures(1)],
        logger=TensorBoardLogger(tmp_path, name="", version=""),
    )
    run.fit(autoencoder(), datamodule=ToyData(random_batch(), random_batch(seed=1)))
    files = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in files] == ["val-0000001.png", "val-0000002.png"]
    assert len(drawn) == 2, "each is rendered once"
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    logged = events.Images("val")
    assert [image.step for image in logged] == [1, 2]
    with Image.open(files[-1]) as picture:
        assert picture.size == (logged[-1].width, logged[-1].height)
