"""What the table says of results with known numbers."""

import hashlib
import json
import math
import re
from pathlib import Path

import pytest
from scipy import stats

from ctp_ldm.experiments import Protocol, ResultError, Study, read_protocol, write_pages
from ctp_ldm.experiments.results import begin, is_begun, is_done, read_result, write_result
from ctp_ldm.experiments.table import Comparison, markdown, primary_comparisons
from ctp_ldm.metrics import Difference, no_worse
from experiments.studies import PATIENTS, curve, result, whole

BETTER = {"lesion_dice": 0.06, "lesion_mae_adc": -25.0}


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return read_protocol()


def study(protocol: Protocol, folder: Path) -> Study:
    return Study(protocol, "small", "final", folder)


def test_a_real_gain_holds_and_an_absent_one_does_not(protocol: Protocol, tmp_path: Path) -> None:
    whole(tmp_path, protocol, ldm=BETTER)
    found = {(c.family, c.column): c for c in primary_comparisons(protocol, study(protocol, tmp_path).arms())}
    assert found["ldm", "lesion_dice"].holds
    assert found["ldm", "lesion_dice"].difference.mean == pytest.approx(0.06, abs=0.01)
    assert found["ldm", "lesion_mae_adc"].holds
    assert found["ldm", "lesion_mae_adc"].difference.patients == 32, "eight have no lesion"
    assert not found["bridge", "lesion_dice"].holds
    assert all(found[family, "false_ml"].holds for family in protocol.families)
    assert {(c.p is None) for c in found.values() if c.column in protocol.primary.no_worse} == {True}


def test_a_gain_by_painting_more_fails_the_margin(protocol: Protocol, tmp_path: Path) -> None:
    whole(tmp_path, protocol, ldm={**BETTER, "false_ml": protocol.primary.no_worse["false_ml"] + 1})
    text = markdown(protocol, study(protocol, tmp_path).arms())
    verdict = next(line for line in text.splitlines() if line.startswith("**conditional LDM.**"))
    assert "But worse by the margin or more: False lesion volume." in verdict
    assert "MAE in the lesion, ADC −25" in verdict
    assert "(−25 %)" in verdict


@pytest.mark.parametrize(
    ("column", "low", "high", "finding"),
    [
        ("false_ml", -1.0, 0.9, "no worse"),
        ("false_ml", -1.0, 1.1, "not shown to be no worse"),
        ("false_ml", 0.2, 1.1, "not shown to be no worse"),
        ("false_ml", 1.0, 2.0, "worse by the margin or more"),
        ("lesion_dice", -0.9, 0.5, "no worse"),
        ("lesion_dice", -1.1, 0.5, "not shown to be no worse"),
        ("lesion_dice", -2.0, -1.0, "worse by the margin or more"),
    ],
)
def test_a_margin_that_the_interval_crosses_is_not_a_loss(column: str, low: float, high: float, finding: str) -> None:
    change = Difference((low + high) / 2, low, high, 40, math.nan)
    held = no_worse(change, 1.0, higher_is_better=column == "lesion_dice")
    assert Comparison("ldm", column, change, None, 1.0, held).finding == finding


def test_a_lucky_chain_is_no_proof(protocol: Protocol, tmp_path: Path) -> None:
    """Sure over patients; of three chains one alone is better."""
    whole(tmp_path, protocol)
    result(tmp_path, "ldm-ours", 0, lesion_dice=0.3)
    arms = study(protocol, tmp_path).arms()
    found = {(c.family, c.column): c for c in primary_comparisons(protocol, arms)}["ldm", "lesion_dice"]
    ours, control = (next(a for a in arms if a.name == f"ldm-{n}").patients["lesion_dice"] for n in ("ours", "control"))
    assert stats.ttest_rel(ours, control).pvalue < 1e-9
    assert found.p is not None
    assert found.p > 0.05
    assert found.difference.low < 0
    assert not found.holds


def test_the_p_values_are_adjusted_for_all_families(protocol: Protocol, tmp_path: Path) -> None:
    whole(tmp_path, protocol, ldm=BETTER)
    found = primary_comparisons(protocol, study(protocol, tmp_path).arms())
    tested = [c.p for c in found if c.p is not None]
    assert len(tested) == 2 * len(protocol.families)
    raw = [c.difference.p for c in found if c.p is not None]
    assert min(tested) == pytest.approx(len(tested) * min(raw)), "the least of six, times six"


def test_an_interval_beside_zero_is_not_enough_where_the_adjusted_test_fails(
    protocol: Protocol, tmp_path: Path
) -> None:
    """Of the six tests, one with p a little below 0.05."""
    whole(tmp_path, protocol)
    for seed in range(3):
        result(tmp_path, "ldm-ours", seed, noise=1.0, lesion_dice=0.045)
    found = {(c.family, c.column): c for c in primary_comparisons(protocol, study(protocol, tmp_path).arms())}
    chance = found["ldm", "lesion_dice"]
    assert chance.difference.low > 0
    assert chance.p is not None
    assert chance.p > 0.05
    assert not chance.holds


def test_differences_of_each_seed_are_shown_and_missing_ones_told(protocol: Protocol, tmp_path: Path) -> None:
    whole(tmp_path, protocol)
    for seed, shift in enumerate((0.1, 0.2, 0.3)):
        result(tmp_path, "ldm-ours", seed, noise=0.0, lesion_dice=shift)
        result(tmp_path, "ldm-control", seed, noise=0.0)
    text = markdown(protocol, study(protocol, tmp_path).arms())
    assert "| 0.1000, 0.2000, 0.3000 |" in text
    (tmp_path / "parts" / "ldm-ours-seed2.json").unlink()
    assert "| 0.1000, 0.2000 (incomplete) |" in markdown(protocol, study(protocol, tmp_path).arms())


def test_a_rival_that_is_better_is_named_and_a_ceiling_is_not(protocol: Protocol, tmp_path: Path) -> None:
    whole(tmp_path, protocol)
    result(tmp_path, "direct", lesion_dice=0.2, false_ml=3.0)
    result(tmp_path, "oracle", lesion_dice=0.3)
    text = markdown(protocol, study(protocol, tmp_path).arms())
    better = text.split("## Who is better than ours")[1].split("## All arms")[0]
    named = [line for line in better.splitlines() if "lesion from CT perfusion directly" in line]
    assert len(named) == 3, "than ours of every family"
    assert all(
        re.search(r"Dice in patients with lesion 0\.(19|20)\d\d \[", line) and "False lesion" not in line
        for line in named
    )
    assert "true perfusion" not in better
    assert "true perfusion" in text.split("## All arms")[1]


def test_a_rival_that_finds_less_is_not_better_for_its_less_false_lesion(protocol: Protocol, tmp_path: Path) -> None:
    whole(tmp_path, protocol)
    result(tmp_path, "direct", lesion_dice=-0.4, false_ml=-1.9)
    result(tmp_path, "threshold", false_ml=-1.9)
    text = markdown(protocol, study(protocol, tmp_path).arms())
    better = text.split("## Who is better than ours")[1].split("## All arms")[0]
    assert "lesion from CT perfusion directly" not in better
    assert "rCBF < 38 %: False lesion volume −1.9" in better


def test_seeds_are_averaged_per_patient(protocol: Protocol, tmp_path: Path) -> None:
    for seed, shift in enumerate((-0.1, 0.0, 0.1)):
        result(tmp_path, "ldm-ours", seed, noise=0.0, lesion_dice=shift)
    result(tmp_path, "ldm-control", noise=0.0)
    arms = {arm.name: arm for arm in study(protocol, tmp_path).arms()}
    assert arms["ldm-ours"].patients["lesion_dice"].to_dict() == pytest.approx(
        arms["ldm-control"].patients["lesion_dice"].to_dict()
    )
    assert arms["ldm-ours"].seed_deviation["lesion_dice"] == pytest.approx(0.1)


def test_table_and_figure_are_written(protocol: Protocol, tmp_path: Path) -> None:
    whole(tmp_path, protocol, ldm=BETTER)
    table, figure = write_pages(study(protocol, tmp_path))
    assert f"{len(PATIENTS)} test patients" in table.read_text()
    assert figure.read_bytes()[1:4] == b"PNG"
    digest = hashlib.sha256(figure.read_bytes()).hexdigest()
    result(tmp_path, "direct", lesion_dice=0.2)
    assert hashlib.sha256(write_pages(study(protocol, tmp_path))[1].read_bytes()).hexdigest() != digest


def test_operating_curves_of_all_parts_are_in_the_table_and_drawn(protocol: Protocol, tmp_path: Path) -> None:
    """Straight lines from nothing: 10 mL of false lesion find a half where 20 mL find all, a quarter where 40 mL do."""
    whole(tmp_path, protocol)
    for seed in range(3):
        curve(tmp_path, "ldm-ours", seed, false_ml=(10.0, 20.0, 30.0)[seed])
        curve(tmp_path, "ldm-control", seed, false_ml=40.0)
    result(tmp_path, "threshold")
    curve(tmp_path, "threshold", false_ml=80.0)
    text = write_pages(study(protocol, tmp_path))[0].read_text().split("## Operating curves")[1]
    found = {line.split(" | ")[0][2:]: line.split(" | ")[1:] for line in text.splitlines() if line.startswith("| ")}
    ours, control = (
        found["conditional LDM: image and lesion terms (ours)"],
        next(v for k, v in found.items() if "control" in k),
    )
    assert ours[2].startswith("0.500"), "of three trainings the mean"
    assert ours[3] == "–"
    assert control[2].startswith("0.250")
    assert control[3].startswith("−0.250")
    assert found["rival: rCBF < 38 %"][2].startswith("0.125")
    assert "Differences are from conditional LDM: image and lesion terms (ours)." in text
    assert "over patients alone" in text
    assert "curves/bridge-ours-seed0.csv is missing" in text
    assert (tmp_path / "curves.png").read_bytes()[1:4] == b"PNG"


def test_a_part_that_was_made_with_other_settings_is_refused(tmp_path: Path) -> None:
    path = result(tmp_path, "direct")
    assert is_done(path, {"part": "direct", "seed": 0})
    with pytest.raises(ResultError, match=r"made with other settings \(seed\)"):
        is_done(path, {"part": "direct", "seed": 1})
    assert not is_done(tmp_path / "none.json", {})


def test_a_run_that_was_begun_with_other_settings_is_refused(tmp_path: Path) -> None:
    run, identity = tmp_path / "run", {"part": "direct", "commands": [["fit", "--ema=0.99"]]}
    assert not is_begun(run, identity)
    begin(run, identity)
    assert is_begun(run, identity)
    with pytest.raises(ResultError, match=r"part\.json was made with other settings \(commands\)"):
        is_begun(run, identity | {"commands": [["fit", "--ema=0.9"]]})


def test_a_damaged_result_is_refused_by_name(tmp_path: Path) -> None:
    path = result(tmp_path, "direct")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ResultError, match=r"direct-seed0\.json is no result of a part"):
        read_result(path)


def test_a_result_keeps_what_was_asked_for_and_where_it_was_made(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "test").mkdir(parents=True)
    (run / "test" / "patients.csv").write_text("case,dice,ssim_adc\na,0.123456789,0.5\nb,,0.25\n")
    (run / "test" / "summary.json").write_text(json.dumps({"samples": 1, "segmenter": None}))
    (run / "fit.yaml").write_text("seed_everything: 3\ntrainer: {accelerator: cpu}\n")
    (run / "test" / "curves.csv").write_text("case,cutoff\na,0.5\n")
    begin(run, {"part": "x"})
    path = tmp_path / "parts" / "x.json"
    write_result(path, run, ["dice", "lesion_ml"], {"fit": 1.26})
    found = read_result(path)
    assert (tmp_path / "curves" / "x.csv").read_text() == "case,cutoff\na,0.5\n"
    assert found["patients"] == {"a": {"dice": 0.12346}, "b": {"dice": None}}
    assert found["config"]["seed_everything"] == 3
    assert "CPU" in found["device"]
    assert found["seconds"] == {"fit": 1.3}
    assert found["commit"]
    assert found["versions"]["torch"]
