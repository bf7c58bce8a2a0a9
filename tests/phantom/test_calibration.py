"""The figures that a phantom is measured by, and that it meets them."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ctp_ldm.phantom import PRESETS, Mix, describe_phantom
from ctp_ldm.phantom.calibration import TARGETS, auc, calibrate
from ctp_ldm.phantom.patient import Settings


@pytest.mark.parametrize("decimals", [6, 0], ids=["few-ties", "many-ties"])
def test_auc_is_that_of_an_independent_implementation(decimals: int) -> None:
    rng = np.random.default_rng(0)
    label = rng.random(500) < 0.1
    scores = (rng.normal(size=500) + label).round(decimals)
    assert auc(scores, label) == pytest.approx(roc_auc_score(label, scores))


def test_a_phantom_is_described_in_tables_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = describe_phantom(tmp_path / "out", "stress", 12, 3, "tiny", workers=1)
    content = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert content["found"].keys() == found.keys() == {target.name for target in TARGETS}
    table, shown = (tmp_path / "out" / "calibration.md").read_text(), capsys.readouterr().out
    assert all(target.name in table for target in TARGETS)
    assert "Cereda" in shown
    for oracle in ("true CBF, CBV and delay", "noisy curve of the voxel", "none"):
        assert oracle in table
        assert np.isfinite(list(content["oracles"][oracle].values())).all()
    for figure in ("calibration.png", "cases.png"):
        assert (tmp_path / "out" / figure).stat().st_size > 20_000


def test_too_few_patients_to_describe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cases: found 3, expected at least 12"):
        describe_phantom(tmp_path / "out", "demo", 3, 0, "tiny")
    assert not (tmp_path / "out").exists()


def test_measures_do_not_depend_on_the_number_of_workers() -> None:
    settings = Settings(5, "tiny", Mix())
    alone, shared = (calibrate(settings, 3, workers) for workers in (1, 2))
    assert json.dumps(alone) == json.dumps(shared)


@pytest.mark.slow
def test_two_hundred_standard_patients_meet_every_target() -> None:
    preset = PRESETS["standard"]
    measured = calibrate(Settings(preset.seed, preset.size, preset.mix), 200, workers=2)
    outside = {
        target.name: target.measure(measured)
        for target in TARGETS
        if not target.low <= target.measure(measured) <= target.high
    }
    assert not outside
    by_name = {target.name: target.measure(measured) for target in TARGETS}
    assert by_name["HU before contrast, voxel AUC"] < by_name["CBF, voxel AUC"] - 0.1
