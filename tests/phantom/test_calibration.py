"""The figures that a phantom is measured by, and that it meets them on patients that nothing was tuned on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ctp_ldm.phantom import PRESETS, Mix, describe_phantom
from ctp_ldm.phantom.calibration import auc, measure, rule, summarise
from ctp_ldm.phantom.learnable import VoxelMaps
from ctp_ldm.phantom.patient import Settings
from ctp_ldm.phantom.targets import TARGETS, Target

HELD_OUT_SEEDS = (20300, 20310)
"""Parameters were tuned on seeds 901, 902 and 20290."""


@pytest.mark.parametrize("decimals", [6, 0], ids=["few-ties", "many-ties"])
def test_auc_is_that_of_an_independent_implementation(decimals: int) -> None:
    rng = np.random.default_rng(0)
    label = rng.random(500) < 0.1
    scores = (rng.normal(size=500) + label).round(decimals)
    assert auc(scores, label) == pytest.approx(roc_auc_score(label, scores))


def test_low_flow_is_judged_by_the_mean_of_the_other_side_and_counted_on_the_ill_one() -> None:
    shape = (4, 2, 1)
    ill = np.indices(shape)[0] < 2
    cbf = np.array([[10, 18.9], [19.1, 50], [60, 40], [90, 10]], np.float16).reshape(shape)
    label = np.array([[1, 0.4], [0.6, 0], [0, 0], [0, 0]], np.float32).reshape(shape)
    maps = VoxelMaps((4.0, 4.0, 5.0), np.ones(shape, np.float32), label, ill, {"CT": {"cbf": cbf}, "truth": {}})
    # The other side has a mean of 50, so less than 19 is low: two voxels of 0.08 mL; its own low voxel does not count.
    assert rule(maps) == pytest.approx({"label_ml": 0.16, "low_ml": 0.16, "hit_ml": 0.08})
    # Fluid is not judged: without it the other side's mean is 63.3, and less than 24.1 is low.
    dry = replace(maps, tissue=np.where(cbf == 10, 0.2, 1).astype(np.float32))
    assert rule(dry) == pytest.approx({"label_ml": 0.08, "low_ml": 0.16, "hit_ml": 0.08})


def test_a_phantom_is_described_in_a_table_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = describe_phantom(tmp_path / "out", PRESETS["standard"].mix, 12, 3, "tiny", workers=1)
    content = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert content["found"].keys() == found.keys() == {target.key for target in TARGETS}
    assert content["mix"]["mri"] == "early"
    table, shown = (tmp_path / "out" / "calibration.md").read_text(), capsys.readouterr().out
    assert all(target.name in table for target in TARGETS)
    assert "Cereda" in shown
    assert np.isfinite([found[key] for key in ("rule bias", "rule Dice", "lesion_ml 50 %", "adc_grey")]).all()
    for figure in ("calibration.png", "cases.png"):
        assert (tmp_path / "out" / figure).stat().st_size > 20_000


def test_what_cannot_be_described_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cases: found 3, expected at least 12"):
        describe_phantom(tmp_path / "out", Mix(), 3, 0, "tiny")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        describe_phantom(tmp_path / "file", Mix(), 12, 0, "tiny")


def test_only_what_is_tested_can_be_missed() -> None:
    tested, shown = Target("x", "", "", 0, 1, ""), Target("x", "", "", 0, 1, "", why="derived")
    assert [target.missed({"x": 2.0}) for target in (tested, shown)] == [True, False]
    assert tested.missed({"x": float("nan")})
    assert not tested.missed({"x": 0.5})


def test_measures_do_not_depend_on_the_number_of_workers() -> None:
    settings = Settings(5, "tiny", Mix())
    alone, shared = (summarise(settings, measure(settings, 12, workers)) for workers in (1, 2))
    np.testing.assert_equal(alone, shared)


@pytest.mark.slow
@pytest.mark.parametrize("seed", HELD_OUT_SEEDS)
def test_four_hundred_strokes_meet_every_target(seed: int) -> None:
    preset = PRESETS["standard"]
    settings = Settings(seed, preset.size, preset.mix)
    found = summarise(settings, measure(settings, 400, workers=2))
    missed = {target.key: found[target.key] for target in TARGETS if target.missed(found)}
    assert not missed
