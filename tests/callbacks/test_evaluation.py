"""Results of a test as files that other programs can read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from samples import SPEC, SlabData, ToyData, autoencoder, diffusion, random_batch, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from ctp_ldm.callbacks import Evaluation, EvaluationError
from ctp_ldm.callbacks.volumes import NonFiniteOutput
from ctp_ldm.metrics import PatientMetrics, PatientVolumes
from ctp_ldm.modules.checkpoints import case_digest
from ctp_ldm.modules.diffusion import SEED_STRIDE
from ctp_ldm.sample import Sample


def run_test(batch: Sample, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    trainer(folder, callbacks=[Evaluation()]).test(autoencoder(), datamodule=ToyData(batch), verbose=False)
    table = pd.read_csv(folder / "test" / "patients.csv", dtype={"case": str}, index_col="case")
    return table, json.loads((folder / "test" / "summary.json").read_text(), parse_constant=pytest.fail)


def test_each_patient_has_a_row_with_its_metrics(patients: Sample, tmp_path: Path) -> None:
    table, _ = run_test(patients, tmp_path)
    module, metrics = autoencoder().eval(), PatientMetrics(SPEC)
    with torch.no_grad():
        metrics.update(module.predict_step(patients, 0)["image"], SPEC.decode_target(patients["target"]), patients)
    expected = metrics.compute()
    assert list(table.index) == ["007", "8"]
    for case, row in expected.items():
        for name in set(row) - {"lesion_voxels"}:
            np.testing.assert_allclose(table.loc[case, name], row[name], rtol=1e-4)
    assert "dice" not in table, "there is no segmenter"


def test_the_volumes_of_each_patient_are_kept(patients: Sample, tmp_path: Path) -> None:
    run_test(patients, tmp_path)
    found = PatientVolumes.load(tmp_path / "test/volumes/007.npz")
    assert found.targets == ("dwi", "adc")
    assert found.spacing == pytest.approx((5.0, 3.0, 3.0))
    assert found.synthetic.shape == (6, 2, 16, 24)
    assert found.sources == ("mean of phases",)
    assert found.lesion is not None
    assert found.lesion.sum() == 48
    real = SPEC.decode_target(patients["target"]) * patients["brain"]
    np.testing.assert_allclose(found.real[:2], real[1::2], atol=1, rtol=1e-3)
    assert not found.real[2:].any(), "slices without brain"


def test_slabs_are_scored_as_slabs(patients: Sample, tmp_path: Path) -> None:
    """The same slices score the same, whether or not the file's are thinner."""
    scores = []
    for data in (ToyData, SlabData):
        folder = tmp_path / data.__name__
        trainer(folder, callbacks=[Evaluation()]).test(autoencoder(), datamodule=data(patients), verbose=False)
        scores.append(pd.read_csv(folder / "test" / "patients.csv", index_col="case"))
        found = PatientVolumes.load(folder / "test/volumes/007.npz")
        assert found.spacing == pytest.approx((5.0, 3.0, 3.0))
        assert found.synthetic.shape == (6, 2, 16, 24)
    pd.testing.assert_frame_equal(*scores)
    assert scores[0].loc[7, "lesion_ml"] == pytest.approx(48 * 5 * 3 * 3 / 1000)


def test_results_of_an_earlier_test_do_not_stay_beside_new_ones(patients: Sample, tmp_path: Path) -> None:
    """Other patients, another segmenter: what the new test does not write would be taken for its own."""
    left = [tmp_path / "test/volumes/earlier.npz", tmp_path / "test/curves.csv", tmp_path / ".test/volumes/killed.npz"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of another model")
    run_test(patients, tmp_path)
    assert sorted(path.name for path in (tmp_path / "test/volumes").iterdir()) == ["007.npz", "8.npz"]
    assert sorted(path.name for path in (tmp_path / "test").iterdir()) == ["patients.csv", "summary.json", "volumes"]
    assert not list(tmp_path.glob(".test*"))


class Unwilling(Evaluation):
    """Ends like a killed one, after all volumes have been written."""

    def _write(self, *_: Any) -> None:
        raise KeyboardInterrupt


def test_a_test_that_ends_early_leaves_the_earlier_results_as_they_were(patients: Sample, tmp_path: Path) -> None:
    run_test(patients, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "test").rglob("*")}
    module = autoencoder()
    with torch.no_grad():
        next(module.parameters()).mul_(2)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, callbacks=[Unwilling()]).test(module, datamodule=ToyData(patients), verbose=False)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "test").rglob("*")} == before


def test_an_output_that_is_no_number_is_no_result(patients: Sample, tmp_path: Path) -> None:
    module = autoencoder()
    with torch.no_grad():
        next(module.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteOutput, match=r"not finite.*slice \d"):
        trainer(tmp_path, callbacks=[Evaluation()]).test(module, datamodule=ToyData(patients), verbose=False)
    assert not (tmp_path / "test").exists()


class Painter:
    """A segmenter that finds lesion wherever the first channel is above its middle, whatever the image."""

    path, threshold = Path(__file__), 0.5

    def __init__(self, known: Sequence[str] = ()) -> None:
        self.known = known

    def read(self, images: Tensor, brain: Tensor) -> tuple[Tensor, Tensor | None]:
        return (images[:, :1] > 2) * brain, images.mean(dim=(2, 3))

    def seen(self, cases: Sequence[str]) -> list[str]:
        return [case for case in cases if case in self.known]


def with_reader(reader: Painter) -> Evaluation:
    evaluation = Evaluation()
    evaluation.reader = reader
    return evaluation


def test_what_a_segmenter_finds_is_compared_with_the_reference(patients: Sample, tmp_path: Path) -> None:
    module = autoencoder()
    trainer(tmp_path, callbacks=[with_reader(Painter())]).test(module, datamodule=ToyData(patients), verbose=False)
    table = pd.read_csv(tmp_path / "test/patients.csv", dtype={"case": str}, index_col="case")
    found = (SPEC.decode_target(patients["target"])[:, 0] > 2) & (patients["brain"][:, 0] > 0)
    for case, slices in (("8", slice(0, None, 2)), ("007", slice(1, None, 2))):
        reference = patients["lesion"][slices, 0] > 0
        both = (found[slices] & reference).sum()
        total = found[slices].sum() + reference.sum()
        assert table.loc[case, "dice_real"] == pytest.approx(float(2 * both / total), abs=1e-5)
    assert np.isnan(table.loc["007", "false_free_ml"])
    assert table.loc["8", "false_free_ml"] == table.loc["8", "false_ml"]
    summary = json.loads((tmp_path / "test/summary.json").read_text())
    assert summary["segmenter"]["path"] in (Painter.path.name, "tests/callbacks/test_evaluation.py")
    assert len(summary["segmenter"]["sha256"]) == 64
    assert summary["spec"] == SPEC.to_plain()
    assert summary["over all slices"]["frechet_distance"] >= 0, "four slices of two features"


class Split(ToyData):
    parts = {"test": ["007", "8"]}


def test_a_segmenter_that_knows_the_test_patients_is_refused(patients: Sample, tmp_path: Path) -> None:
    running = trainer(tmp_path, callbacks=[with_reader(Painter(known=["8"]))])
    with pytest.raises(EvaluationError, match=r"trained on test patients, such as \['8'\]"):
        running.test(autoencoder(), datamodule=Split(patients), verbose=False)


def test_a_segmenter_that_knows_the_validation_patients_is_refused_too(patients: Sample, tmp_path: Path) -> None:
    """Who chooses a cut-off on patients that the segmenter was trained on chooses too low a one."""

    class Split(ToyData):
        parts = {"val": ["007", "8"], "test": ["new"]}

    running = trainer(tmp_path, callbacks=[with_reader(Painter(known=["8"]))], limit_val_batches=1.0)
    with pytest.raises(EvaluationError, match=r"trained on validation patients, such as \['8'\]"):
        running.validate(autoencoder(), datamodule=Split(patients), verbose=False)
    assert not (tmp_path / "validation").exists()
    module = autoencoder()
    module.trained_on = {case_digest("007")}
    running = trainer(tmp_path, callbacks=[with_reader(Painter(known=["new"]))], limit_val_batches=1.0)
    with pytest.warns(UserWarning, match=r"trained on validation patients, such as \['007'\]"):
        running.validate(module, datamodule=Split(patients), verbose=False)
    assert (tmp_path / "validation" / "cutoff.json").is_file()


def test_a_model_that_knows_the_test_patients_is_told_of(patients: Sample, tmp_path: Path) -> None:
    module = autoencoder()
    module.trained_on = {case_digest("8")}
    with pytest.warns(UserWarning, match=r"trained on test patients, such as \['8'\]"):
        trainer(tmp_path, callbacks=[Evaluation()]).test(module, datamodule=Split(patients), verbose=False)


def test_validation_with_a_segmenter_logs_and_draws_lesion_metrics(patients: Sample, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    settings: dict[str, Any] = {"callbacks": [with_reader(Painter())], "logger": logger, "limit_val_batches": 1.0}
    running = trainer(tmp_path, **settings)
    running.validate(autoencoder(), datamodule=ToyData(patients), verbose=False)
    assert 0 <= running.callback_metrics["val/dice"] <= 1
    assert "val/false_ml" in running.callback_metrics
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {"lesions", "operating curve"}
    assert not (tmp_path / "test").exists()


def test_several_samples_have_a_deviation(patients: Sample, tmp_path: Path) -> None:
    module = diffusion(samples=3)
    trainer(tmp_path, callbacks=[Evaluation()]).test(module, datamodule=ToyData(patients), verbose=False)
    table = pd.read_csv(tmp_path / "test/patients.csv", dtype={"case": str}, index_col="case")
    assert table["uncertainty_coverage_adc"].between(0, 1).all()
    volumes = PatientVolumes.load(tmp_path / "test/volumes/8.npz")
    images = [module.to_physical(module.synthesise(patients, SEED_STRIDE * i), patients) for i in range(3)]
    expected = torch.stack(images).std(dim=0)[0::2].detach().numpy()
    assert volumes.deviation is not None
    np.testing.assert_allclose(volumes.deviation[:2], expected, atol=1, rtol=2e-3)


def test_lesions_are_given_in_millilitres(patients: Sample, tmp_path: Path) -> None:
    table, _ = run_test(patients, tmp_path)
    assert table.columns[0] == "lesion_ml"
    assert table.loc["007", "lesion_ml"] == pytest.approx(48 * 3 * 3 * 5 / 1000)
    assert table.loc["8", "lesion_ml"] == 0
    assert np.isnan(table.loc["8", "lesion_mae_adc"])


def test_the_summary_has_means_and_intervals_over_the_patients_that_have_the_metric(
    patients: Sample, tmp_path: Path
) -> None:
    table, summary = run_test(patients, tmp_path)
    assert summary["patients"] == 2
    brain, lesion = summary["metrics"]["brain_mae_adc"], summary["metrics"]["lesion_mae_adc"]
    assert brain["patients"] == 2
    assert brain["mean"] == pytest.approx(table["brain_mae_adc"].mean(), rel=1e-4)
    assert brain["low"] <= brain["mean"] <= brain["high"]
    assert lesion["patients"] == 1
    assert lesion["low"] is None


def test_the_summary_stays_valid_json_where_nobody_has_a_lesion(tmp_path: Path) -> None:
    _, summary = run_test(random_batch(lesion=False), tmp_path)
    assert summary["metrics"]["lesion_mae_dwi"] == {"mean": None, "low": None, "high": None, "patients": 0}
