"""Figures hold the numbers that they are drawn from, and stay away where there is nothing to draw."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctp_ldm.metrics import bland_altman
from ctp_ldm.report.figures import Figure, Plot, agreement, calibration, false_lesion, forest, strata
from ctp_ldm.report.figures.forest import nothing_found
from ctp_ldm.report.figures.scale import categories, linear, volume
from ctp_ldm.report.study import Study, read_study
from ctp_ldm.report.wording import number
from report.tested import make_run, write_table

VOLUMES = [0.5, 3.0, 10.0, 40.0, 90.0, 2.0]
TABLE = {
    "reference_ml": VOLUMES,
    "found_ml": [0.0, 4.0, 12.0, 35.0, 100.0, 2.5],
    "lesion_dice": [0.0, 0.4, 0.6, 0.7, 0.8, 0.3],
    "detected": [0.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "false_ml": [0.0, 1.0, 3.0, 2.0, 12.0, 1.0],
    "volume_error_ml": [-0.5, 1.0, 2.0, -5.0, 10.0, 0.5],
    "brain_mae_dwi": [0.2, 0.1, 0.3, 0.2, 0.1, 0.2],
}
BETTER = {**TABLE, "lesion_dice": [0.1, 0.6, 0.7, 0.8, 0.9, 0.5], "brain_mae_dwi": [0.19, 0.08, 0.28, 0.17, 0.09, 0.18]}


def study(folder: Path, *tables: dict[str, list[float]]) -> Study:
    for i, columns in enumerate(tables):
        cases = [f"c{j}" for j in range(len(next(iter(columns.values()))))]
        write_table(folder / f"run{i}", pd.DataFrame(columns, index=cases))
    return read_study([folder / f"run{i}" for i in range(len(tables))])


def texts(plot: Plot) -> list[str]:
    return [str(element.text) for element in ET.fromstring(plot.standalone()).iter() if element.text]


def circles(plot: Plot) -> list[ET.Element]:
    return list(ET.fromstring(plot.standalone()).iter("{http://www.w3.org/2000/svg}circle"))


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


def test_the_forest_turns_better_to_the_right(tmp_path: Path) -> None:
    figure = drawn(forest(study(tmp_path, TABLE, BETTER)))
    lesions, images = figure.plots
    assert lesions.title == "run1 − run0: lesions"
    # Bias has no better side: it is not in the forest.
    assert {"Dice in patients with lesion", "False lesion volume"} <= set(texts(lesions))
    assert "Volume error" not in texts(lesions)
    (mae,) = circles(images)
    assert float(mae.attrib["cx"]) > images.across(0)
    assert "hollow" not in mae.attrib["class"]
    assert any(text.startswith("−0.018 [") for text in texts(images))
    false_volume = circles(lesions)[1]
    assert float(false_volume.attrib["cx"]) == pytest.approx(lesions.across(0), abs=0.1)
    assert "hollow" in false_volume.attrib["class"]


def test_rows_without_spread_are_drawn_and_what_is_not_is_named(tmp_path: Path) -> None:
    """The reference finds nothing in anyone: its Dice does not vary."""
    nothing = {**TABLE, "lesion_dice": [0.0] * 6, "detected": [0.0] * 6, "brain_mae_dwi": [0.2] * 6}
    figure = drawn(forest(study(tmp_path, nothing, {**BETTER, "brain_mae_dwi": [0.1] * 6})))
    lesions, images = figure.plots
    assert {"Dice in patients with lesion", "Detected (20 % of the volume)", "False lesion volume"} <= set(
        texts(lesions)
    )
    assert sum(text.endswith("†") for text in texts(lesions) if ": " not in text) == 2
    dice = circles(lesions)[0]
    own = np.mean(BETTER["lesion_dice"]) / np.std(BETTER["lesion_dice"], ddof=1)
    assert float(dice.attrib["cx"]) == pytest.approx(lesions.across(own), abs=0.1)
    assert float(circles(images)[0].attrib["cx"]) == pytest.approx(images.across(0.1), abs=0.1), "in its own unit"
    assert "†: run0 does not vary over patients" in figure.caption
    assert "Not drawn, without a better side or a difference: Volume error, Volume found" in figure.caption


def test_what_finding_nothing_is_worth_is_a_dashed_mark(tmp_path: Path) -> None:
    lesions, images = drawn(forest(study(tmp_path, TABLE, BETTER))).plots

    def marks(plot: Plot) -> list[float]:
        lines = ET.fromstring(plot.standalone()).iter("{http://www.w3.org/2000/svg}line")
        return [float(line.attrib["x1"]) for line in lines if line.attrib["class"] == "nothing"]

    dice, false, detected = marks(lesions)
    assert marks(images) == []
    for at, column, better in ((dice, "lesion_dice", 1), (detected, "detected", 1), (false, "false_ml", -1)):
        expected = -better * np.mean(TABLE[column]) / np.std(TABLE[column], ddof=1)
        assert at == pytest.approx(lesions.across(expected), abs=0.1)


def test_finding_nothing_is_right_where_there_is_nothing() -> None:
    volumes = pd.Series([5.0, 0.0])
    values = {
        "dice": [0.5, 0.0],
        "lesion_dice": [0.5, np.nan],
        "detected": [1.0, np.nan],
        "false_ml": [1.0, 2.0],
    }
    expected = {"dice": [0.0, 1.0], "lesion_dice": [0.0, np.nan], "detected": [0.0, np.nan], "false_ml": [0, 0]}
    for column, some in values.items():
        found = nothing_found(column, pd.Series(some), volumes)
        assert found is not None
        np.testing.assert_array_equal(found, expected[column])
    assert nothing_found("hd95_mm", volumes, volumes) is None


def test_agreement_shows_bias_limits_and_every_patient(tmp_path: Path) -> None:
    (plot,) = drawn(agreement(study(tmp_path, TABLE))).plots
    assert len(circles(plot)) == len(VOLUMES)
    result = bland_altman(TABLE["found_ml"], VOLUMES)
    words = " ".join(texts(plot))
    assert f"limits {number(result.lower.value, 1)} to {number(result.upper.value, 1)} mL" in words
    assert "n = 6" in words
    assert "c4: found 100.0 mL, reference 90.0 mL" in words


def test_points_lead_to_their_cases_on_a_page_only(tmp_path: Path) -> None:
    (plot,) = drawn(agreement(study(tmp_path, TABLE))).plots
    assert plot.svg({"c1": "cases/c1.html"}).count('href="cases/c1.html"') == 1
    assert "href" not in plot.svg()
    assert "href" not in plot.standalone()


def test_strata_show_detection_and_errors_by_volume(tmp_path: Path) -> None:
    figure = drawn(strata(study(tmp_path, TABLE, BETTER)))
    assert [plot.title for plot in figure.plots] == ["Dice in patients with lesion", "Detection"]
    words = texts(figure.plots[1])
    assert {"< 1", "1–10", "10–70", "≥ 70"} <= set(words)
    assert "run0, 1–10 mL: 1.00 [0.34, 1.00], n = 2" in words  # Wilson's interval of 2 of 2
    assert len(circles(figure.plots[1])) == 8


def test_false_lesion_shows_parts_with_their_means(tmp_path: Path) -> None:
    (plot,) = drawn(false_lesion(study(tmp_path, TABLE))).plots
    assert len(circles(plot)) == 6
    assert {"anywhere", "mean 3.2", "n = 6"} <= set(texts(plot))


def test_calibration_draws_each_patient_and_their_mean(tmp_path: Path) -> None:
    curves = [{"dwi": [(0.1, 0.2), (0.3, 0.4)]}, {"dwi": [(0.2, 0.2), (0.4, 0.6)]}]
    (plot,) = drawn(calibration(study(tmp_path, TABLE), {"run0": curves})).plots
    lines = [e.attrib["class"] for e in ET.fromstring(plot.standalone()).iter("{http://www.w3.org/2000/svg}polyline")]
    assert lines == ["thread arm-0", "thread arm-0", "path thick arm-0"]
    assert "run0: deviation 0.15, error 0.2 [0.2, 0.2]" in " ".join(texts(plot))
    assert "run0: deviation 0.35, error 0.5 [0.4, 0.6]" in " ".join(texts(plot)), "over patients"


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    alone = study(tmp_path / "a", {"brain_mae_dwi": [0.1, 0.2], "lesion_ml": [0.0, 0.0]})
    assert [f(alone) for f in (forest, agreement, strata, false_lesion)] == [None] * 4
    assert calibration(alone, {}) is None


@pytest.mark.parametrize("patients", [{"a": 5}, {"a": 0}, {"a": 0, "b": 0}, {"a": 5, "b": 0}])
def test_few_and_lesion_free_patients_are_drawn_without_fault(tmp_path: Path, patients: dict[str, int]) -> None:
    runs = [make_run(tmp_path / "one", patients), make_run(tmp_path / "two", patients, seed=1)]
    whole = read_study(runs)
    for figure in filter(None, (f(whole) for f in (forest, agreement, strata, false_lesion))):
        for plot in figure.plots:
            assert "nan" not in plot.standalone()


def test_names_are_escaped(tmp_path: Path) -> None:
    table = pd.DataFrame(TABLE, index=["<script>", *"bcdef"])
    write_table(tmp_path / "<i>&amp;", table)
    (plot,) = drawn(agreement(read_study([tmp_path / "<i>&amp;"]))).plots
    assert "<i>" not in plot.svg()
    assert "&lt;i&gt;&amp;amp;" in plot.svg()
    assert "<script>" not in plot.svg({"<script>": 'x"y'})
    assert 'href="x&#34;y"' in plot.svg({"<script>": 'x"y'})


def test_scales_have_round_ticks_and_true_minus_signs() -> None:
    assert [label for _, label in linear([-10, 10]).ticks] == ["−10", "−5", "0", "5", "10"]
    assert [label for _, label in linear([0, 0.01]).ticks] == ["0.0000", "0.0025", "0.0050", "0.0075", "0.0100"]
    assert linear([5, 5]).place(5) == pytest.approx(0.5)
    assert [label for _, label in volume([80]).ticks] == ["0", "1", "5", "10", "25", "70"]
    assert volume([100]).place(25) == pytest.approx(np.sqrt(25 / 108))
    assert [categories(["a", "b"]).place(i) for i in range(2)] == [0.25, 0.75]
    assert number(-0.0001, 2) == "0.00"
    assert number(-1.5, 1) == "−1.5"
