"""Pictures of the slices that show most, and the arrays behind them."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from samples import SIZE, SPEC, ToyData, autoencoder, random_batch, select, trainer

from ctp_ldm.callbacks import Pictures
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


def run_test(batch: Sample, folder: Path, patients: int = 2) -> dict[str, np.ndarray]:
    module = autoencoder()
    data = ToyData(select(batch, [0, 3, 1, 4]), select(batch, [2, 5, 6, 7, 8]))
    trainer(folder, callbacks=[Pictures(patients)]).test(module, datamodule=data, verbose=False)
    with np.load(folder / "pictures" / "test.npz", allow_pickle=False) as archive:
        return dict(archive)


def test_a_test_keeps_the_slice_with_the_largest_lesion_else_the_most_brain(
    three_cases: Sample, tmp_path: Path
) -> None:
    arrays = run_test(three_cases, tmp_path)
    assert {key.split("/")[0] for key in arrays} == {"a", "b"}
    for case, row in (("a", 1), ("b", 5)):
        real = SPEC.decode_target(three_cases["target"][row : row + 1])[0]
        np.testing.assert_allclose(arrays[f"{case}/real"], real.numpy(), rtol=1e-5)
        np.testing.assert_allclose(arrays[f"{case}/source"], three_cases["source"][row].mean(0).numpy(), rtol=1e-5)
        assert np.array_equal(arrays[f"{case}/lesion"], three_cases["lesion"][row, 0].numpy())
        assert arrays[f"{case}/brain"].shape == SIZE
    assert arrays["a/lesion"].sum() == 24


def test_the_drawn_prediction_is_the_model_s_in_physical_units(three_cases: Sample, tmp_path: Path) -> None:
    arrays = run_test(three_cases, tmp_path)
    with torch.no_grad():
        expected = autoencoder().eval().predict_step(select(three_cases, [1]), 0)["image"][0]
    np.testing.assert_allclose(arrays["a/synthetic"], expected.numpy(), rtol=1e-3, atol=1e-3)


def test_a_test_draws_a_readable_picture(three_cases: Sample, tmp_path: Path) -> None:
    run_test(three_cases, tmp_path)
    picture = matplotlib.image.imread(tmp_path / "pictures" / "test.png")
    assert picture.shape[2] == 4
    assert picture[..., :3].std() > 0.05


def test_validation_draws_one_picture_per_check_but_none_for_the_sanity_check(tmp_path: Path) -> None:
    run = trainer(
        tmp_path,
        max_steps=2,
        limit_val_batches=1,
        num_sanity_val_steps=1,
        val_check_interval=1,
        callbacks=[Pictures(1)],
    )
    run.fit(autoencoder(), datamodule=ToyData(random_batch(), random_batch(seed=1)))
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["val-0000001.png", "val-0000002.png"]
