"""The sentences at the top of a report: what they claim, and what they do not."""

from pathlib import Path

import pandas as pd
import pytest

from ctp_ldm.metrics import Interval
from ctp_ldm.report.study import read_study
from ctp_ldm.report.verdict import verdict
from report.tested import write_table


def said(path: Path, **columns: tuple[list[float], list[float]]) -> list[str]:
    """Of a control and an arm with these values of each patient."""
    for name, side in (("control", 0), ("ours", 1)):
        table = pd.DataFrame({column: values[side] for column, values in columns.items()})
        write_table(path / name, table.set_axis([f"sub-{i:02d}" for i in range(len(table))]))
    return verdict(read_study([path / "control", path / "ours"]))


def test_what_all_patients_agree_on_is_claimed_in_plain_numbers(tmp_path: Path) -> None:
    (sentence,) = said(tmp_path, false_ml=([1.0] * 10, [4.2] * 10))
    assert sentence == (
        "ours draws 3.2 mL (95 % interval 3.2 to 3.2) more false lesion per patient than control (10 patients)."
    )


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.12, 0.03, 0.22), "shows 12 more (95 % interval 3 to 22) than control (10 patients)."),
        ((-0.12, -0.22, -0.03), "shows 12 fewer (95 % interval 3 to 22) than control (10 patients)."),
        ((0.1, 0.002, 0.2), "shows 10.0 more (95 % interval 0.2 to 20.0) than control (10 patients)."),
        ((0.1, 0.0, 0.2), "of 100 the difference lies from 0 to 20 more (95 % interval; 10 patients)."),
        ((0.0, -0.04, 0.03), "of 100 the difference lies from 4 fewer to 3 more (95 % interval; 10 patients)."),
        ((0.1, float("nan"), float("nan")), "of 100 there is no interval of 10 patients."),
    ],
)
def test_a_claim_needs_an_interval_without_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval: tuple[float, float, float], expected: str
) -> None:
    change = Interval(*interval, 10)
    monkeypatch.setattr("ctp_ldm.report.study.Study.difference", lambda *_: change)
    sentence = said(tmp_path, detected_10ml=([1.0] * 10, [1.0] * 10))[0]
    assert sentence.endswith(expected)
    assert sentence.startswith("It is not clear whether ours") == (
        "interval; 10" in expected or "no interval" in expected
    )


def test_a_claim_needs_its_adjusted_p_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence does not contradict the table below it, which follows the adjusted p."""
    change = {"lesion_dice": Interval(0.02, 0.004, 0.035, 8)}
    monkeypatch.setattr("ctp_ldm.report.study.Study.difference", lambda _, column, arm: change.get(column))
    for p, claims in ((0.089, False), (0.03, True)):
        tests = {("ours", "lesion_dice"): p, ("ours", "false_ml"): 0.5}
        monkeypatch.setattr("ctp_ldm.report.study.primary_tests", lambda *_, tests=tests: tests)
        (sentence,) = said(tmp_path / str(p), lesion_dice=([0.2] * 8, [0.3] * 8))
        assert sentence.startswith("Where there is a lesion, its outline on ours agrees better") == claims
        if not claims:
            assert sentence.startswith("It is not clear whether lesions' outlines on ours agree better or worse")
            assert "from 0.004 higher to 0.035 higher (95 % interval; 8 patients)" in sentence
            assert sentence.endswith("but of 2 comparisons one may be so by chance (p = 0.089, Holm).")


def test_the_last_arm_is_compared_in_what_both_have(tmp_path: Path) -> None:
    better = said(tmp_path, lesion_dice=([0.2] * 8, [0.3] * 8))
    assert better == [
        "Where there is a lesion, its outline on ours agrees better with the reference than on control: Dice 0.10 "
        "(95 % interval 0.10 to 0.10) higher (8 patients)."
    ]
    assert said(tmp_path / "none", brain_mae_dwi=([0.2] * 8, [0.3] * 8)) == []
    assert verdict(read_study([tmp_path / "control"])) == []


def test_less_false_lesion_of_who_finds_less_is_called_no_gain(tmp_path: Path) -> None:
    some, false = [0.5] * 8, ([5.0] * 8, [1.0] * 8)
    claim = "ours draws 4.0 mL (95 % interval 4.0 to 4.0) less false lesion per patient than control (8 patients)"
    none, nobody = [0.0] * 8, [float("nan")] * 8
    for name, found, reserve in (
        ("as much", some, ""),
        ("nothing", none, ", but finds less of the lesions: that is no gain"),
        ("nobody", nobody, "; whether it finds the lesions is not known, for no patient has one"),
    ):
        base = nobody if name == "nobody" else some
        assert said(tmp_path / name, sensitivity=(base, found), false_ml=false) == [f"{claim}{reserve}."]


def test_it_is_about_the_method_not_about_a_rival_that_makes_no_images(tmp_path: Path) -> None:
    found = {"control": 1.0, "ours": 4.2, "direct": 20.0}
    for name, false in found.items():
        images = {} if name == "direct" else {"brain_mae_dwi": [0.1] * 8}
        table = pd.DataFrame({"false_ml": [false] * 8, **images}, index=[f"sub-{i:02d}" for i in range(8)])
        write_table(tmp_path / name, table)
    (sentence,) = verdict(read_study([tmp_path / name for name in found]))
    assert sentence.startswith("ours draws 3.2 mL")
