"""Curves and cut-offs that a test and a validation leave in the run's folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from samples import SPEC, ToyData, autoencoder, segmenter, trainer
from torch import Tensor

from ctp_ldm.callbacks import Evaluation, EvaluationError, NIfTIWriter
from ctp_ldm.callbacks.operating import CutoffError
from ctp_ldm.metrics.curves import COLUMNS, CUTOFFS, OperatingCurve
from ctp_ldm.modules import FlowThreshold
from ctp_ldm.sample import Sample
from ctp_ldm.scaling import Linear
from ctp_ldm.spec import Channel, DataSpec

VOXEL_ML = 5 * 3 * 3 / 1000


class Reader:
    """A segmenter whose probability rises with the first channel, whatever the image."""

    def __init__(self, path: Path, threshold: float = 0.5) -> None:
        path.write_text(str(threshold))
        self.path, self.threshold = path, threshold

    def read(self, images: Tensor, brain: Tensor) -> tuple[Tensor, Tensor | None]:
        return (images[:, :1] / 4).clamp(0, 1) * brain, None

    def seen(self, cases: Sequence[str]) -> list[str]:
        return []


def evaluation(reader: Reader | None = None, cutoff: Any = None, false_ml: float = 0.5) -> Evaluation:
    made = Evaluation()
    made.reader, made.cutoff, made.cutoff_false_ml = reader, cutoff, false_ml
    return made


def run_test(module: L.LightningModule, batch: Sample, folder: Path, how: Evaluation) -> tuple[pd.DataFrame, Any]:
    trainer(folder, callbacks=[how]).test(module, datamodule=ToyData(batch), verbose=False)
    table = pd.read_csv(folder / "test/patients.csv", dtype={"case": str}, index_col="case")
    return table, json.loads((folder / "test/summary.json").read_text())


def run_validation(module: L.LightningModule, batch: Sample, folder: Path, how: Evaluation) -> L.Trainer:
    running = trainer(folder, callbacks=[how], limit_val_batches=1.0)
    running.validate(module, datamodule=ToyData(batch), verbose=False)
    return running


def curves(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"case": str})


def require_thresholding(table: pd.DataFrame, scores: Tensor, batch: Sample, cutoffs: Sequence[float]) -> None:
    """At every cut-off the volumes of the masks that it makes."""
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 2 * len(cutoffs)
    for case, group in table.groupby("case"):
        mine = [i for i, name in enumerate(batch["case"]) if name == case]
        brain, lesion = batch["brain"][mine] > 0, batch["lesion"][mine] > 0
        for row, cutoff in zip(group.itertuples(), cutoffs, strict=True):
            found = (scores[mine] > cutoff) & brain
            expected = [cutoff, *(float(m.sum()) * VOXEL_ML for m in (found, found & lesion, lesion & brain))]
            np.testing.assert_allclose(row[2:], expected, rtol=1e-4)


def test_a_test_with_a_reader_keeps_what_is_found_at_every_cutoff(patients: Sample, tmp_path: Path) -> None:
    module = autoencoder()
    reader = Reader(tmp_path / "reader", threshold=0.437)
    table, summary = run_test(module, patients, tmp_path, evaluation(reader))
    with torch.no_grad():
        scores, _ = reader.read(module.eval().predict_step(patients, 0)["image"], patients["brain"])
    written = curves(tmp_path / "test/curves.csv")
    require_thresholding(written, scores, patients, sorted([*CUTOFFS, 0.437]))
    own = written[written["cutoff"] == summary["cutoff"]].set_index("case")
    assert summary["cutoff"] == 0.437
    np.testing.assert_allclose(own["found_ml"], table.loc[own.index, "found_ml"], rtol=1e-4)


def test_a_rival_that_finds_lesions_itself_has_its_curve(patients: Sample, tmp_path: Path) -> None:
    module = segmenter(inputs="source", threshold=0.4)
    _, summary = run_test(module, patients, tmp_path, evaluation())
    with torch.no_grad():
        scores = module.eval().predict_step(patients, 0)["image"]
    require_thresholding(curves(tmp_path / "test/curves.csv"), scores, patients, CUTOFFS)
    assert summary["cutoff"] == 0.4
    assert summary["cutoff chosen"] == "by the segmenter's config"


def test_the_clinics_rule_is_cut_at_other_shares_of_flow(patients: Sample, tmp_path: Path) -> None:
    spec = DataSpec((Channel("cbf", Linear("mL/100 g/min", 0.0, 100.0)),), SPEC.target, SPEC.spacing, SPEC.size)
    batch: Sample = {**patients, "source": patients["source"][:, :1]}

    class Maps(ToyData):
        def __init__(self, *batches: Sample) -> None:
            super().__init__(*batches)
            self.spec = spec

    trainer(tmp_path, callbacks=[evaluation()]).test(
        FlowThreshold(spec.to_plain()), datamodule=Maps(batch), verbose=False
    )
    written = curves(tmp_path / "test/curves.csv")
    for fraction in (0.2, 0.38, 0.5):
        module = FlowThreshold(spec.to_plain(), fraction)
        found = module.predict_step(batch, 0)["image"][:, 0].sum(dim=(1, 2))
        row = written[written["cutoff"] == round(1 - fraction, 6)].set_index("case")["found_ml"]
        assert row["8"] == pytest.approx(float(found[0] + found[2]) * VOXEL_ML, rel=1e-4)
        assert row["007"] == pytest.approx(float(found[1] + found[3]) * VOXEL_ML, rel=1e-4)


def test_without_a_finder_or_a_reference_there_is_no_curve(patients: Sample, tmp_path: Path) -> None:
    run_test(autoencoder(), patients, tmp_path / "a", evaluation())
    del patients["lesion"]
    run_test(autoencoder(), patients, tmp_path / "b", evaluation(Reader(tmp_path / "reader")))
    assert not list(tmp_path.rglob("curves.csv"))


def test_a_given_cutoff_is_what_lesions_are_found_with(patients: Sample, tmp_path: Path) -> None:
    expected, _ = run_test(autoencoder(), patients, tmp_path / "a", evaluation(Reader(tmp_path / "r", threshold=0.7)))
    found, summary = run_test(autoencoder(), patients, tmp_path / "b", evaluation(Reader(tmp_path / "s"), cutoff=0.7))
    pd.testing.assert_frame_equal(found, expected)
    assert (summary["cutoff"], summary["cutoff chosen"]) == (0.7, "0.7")


@pytest.mark.parametrize("direct", [False, True])
def test_validate_chooses_the_cutoff_that_test_then_uses(patients: Sample, tmp_path: Path, direct: bool) -> None:
    def model() -> tuple[L.LightningModule, Reader | None]:
        return (segmenter(inputs="source"), None) if direct else (autoencoder(), Reader(tmp_path / "reader"))

    module, reader = model()
    wanted = 0.5
    running = run_validation(module, patients, tmp_path, evaluation(reader, false_ml=wanted))
    kept = json.loads((tmp_path / "validation/cutoff.json").read_text())
    assert kept["wanted_false_ml"] == wanted
    assert 0.4 * wanted < kept["false_ml"] <= wanted
    made = OperatingCurve.from_table(curves(tmp_path / "validation/curves.csv"))
    assert made.mean_false_ml[np.argmin(abs(made.cutoffs - kept["cutoff"])) + 1] > wanted, "it is the lowest"
    assert running.callback_metrics["val/curve_area"] == pytest.approx(made.mean_area(), rel=1e-3)
    module, reader = model()
    # The same patients again: what validation promised is what is found.
    table, summary = run_test(module, patients, tmp_path, evaluation(reader, cutoff="validated"))
    assert table["false_ml"].mean() == pytest.approx(kept["false_ml"], rel=1e-4)
    assert (summary["cutoff"], summary["cutoff chosen"]) == (kept["cutoff"], "validated")
    if direct:  # its masks are cut where its test was
        running = trainer(tmp_path, callbacks=[NIfTIWriter(), evaluation(cutoff="validated")])
        running.predict(model()[0], datamodule=ToyData(patients), return_predictions=False)
        for case in ("8", "007"):
            mask = nib.load(tmp_path / "predictions" / case / f"{case}_desc-found_lesion.nii.gz").get_fdata()
            assert mask.sum() * VOXEL_ML == pytest.approx(table.loc[case, "found_ml"], rel=1e-4)


def test_validation_within_training_logs_the_area_of_a_model_that_finds_lesions(
    patients: Sample, tmp_path: Path
) -> None:
    running = trainer(tmp_path, callbacks=[evaluation()], max_steps=1, limit_val_batches=1.0)
    running.fit(segmenter(inputs="source"), datamodule=ToyData(patients))
    logged = float(running.callback_metrics["val/curve_area"])
    assert not (tmp_path / "validation").exists(), "a cut-off is chosen by validate alone"
    expected = run_validation(running.lightning_module, patients, tmp_path, evaluation())
    assert logged == pytest.approx(float(expected.callback_metrics["val/curve_area"]))
    assert 0 < logged < 1


def test_a_cutoff_chosen_for_another_segmenter_is_refused(patients: Sample, tmp_path: Path) -> None:
    with pytest.raises(CutoffError, match=r"cutoff\.json is missing: run ctp-ldm validate"):
        run_test(autoencoder(), patients, tmp_path, evaluation(Reader(tmp_path / "reader"), cutoff="validated"))
    run_validation(autoencoder(), patients, tmp_path, evaluation(Reader(tmp_path / "reader")))
    with pytest.raises(CutoffError, match=r"was chosen with another segmenter .*other"):
        run_test(autoencoder(), patients, tmp_path, evaluation(Reader(tmp_path / "other", 0.6), cutoff="validated"))
    (tmp_path / "validation/cutoff.json").write_text("{")
    with pytest.raises(CutoffError, match=r"cutoff\.json cannot be read"):
        run_test(autoencoder(), patients, tmp_path, evaluation(Reader(tmp_path / "reader"), cutoff="validated"))


def test_cutoffs_without_meaning_are_refused(patients: Sample, tmp_path: Path) -> None:
    with pytest.raises(CutoffError, match=r"cutoff is 1\.0; expected a number above 0 and below 1"):
        run_test(autoencoder(), patients, tmp_path, evaluation(Reader(tmp_path / "reader"), cutoff=1.0))
    with pytest.raises(EvaluationError, match=r"cutoff is 0\.3, and nobody finds lesions"):
        run_test(autoencoder(), patients, tmp_path, evaluation(cutoff=0.3))
