"""Results of a test as files that other programs can read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from samples import SPEC, ToyData, autoencoder, random_batch, trainer

from ctp_ldm.callbacks import PatientTables
from ctp_ldm.metrics import PatientMetrics
from ctp_ldm.sample import Sample


@pytest.fixture
def patients() -> Sample:
    """Patient 007 has a lesion of 24 voxels in each of two slices; patient 8 has none."""
    batch = random_batch(4)
    batch["case"] = ["8", "007", "8", "007"]
    batch["slice_index"] = torch.tensor([0, 0, 1, 1])
    batch["lesion"][::2] = 0
    return batch


def run_test(batch: Sample, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    trainer(folder, callbacks=[PatientTables()]).test(autoencoder(), datamodule=ToyData(batch), verbose=False)
    table = pd.read_csv(folder / "test" / "patients.csv", dtype={"case": str}, index_col="case")
    return table, json.loads((folder / "test" / "summary.json").read_text(), parse_constant=pytest.fail)


def test_each_patient_has_a_row_with_its_metrics(patients: Sample, tmp_path: Path) -> None:
    table, _ = run_test(patients, tmp_path)
    module, metrics = autoencoder().eval(), PatientMetrics(SPEC)
    with torch.no_grad():
        metrics.update(module.predict_step(patients, 0), SPEC.decode_target(patients["target"]), patients)
    expected = metrics.compute()
    assert list(table.index) == ["007", "8"]
    for case, row in expected.items():
        for name in set(row) - {"lesion_voxels"}:
            np.testing.assert_allclose(table.loc[case, name], row[name], rtol=1e-4)


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
