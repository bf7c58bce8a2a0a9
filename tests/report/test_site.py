"""The pages as files: what they say, of whole runs and of runs with something missing."""

import base64
import json
import re
import zlib
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from ctp_ldm.commands import _listed
from ctp_ldm.commands.report import report
from ctp_ldm.report import write_report
from ctp_ldm.report.runs import ComparisonError
from report.tested import PATIENTS, make_run


def page(path: Path) -> str:
    return path.read_text()


def words(path: Path) -> str:
    """What a page says, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page(path))).split())


def order(text: str, *parts: str) -> None:
    places = [text.index(part) for part in parts]
    assert places == sorted(places), dict(zip(parts, places, strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three runs: a control without several samples, and two seeds; one patient's volumes are missing."""
    folder = tmp_path_factory.mktemp("whole")
    runs = [
        make_run(folder / "control", error=0.3, without_volumes=["sub-2"]),
        make_run(folder / "ours-seed1", seed=1, samples=3, without_volumes=["sub-2"]),
        make_run(folder / "ours-seed2", seed=2, samples=3, without_volumes=["sub-2", "sub-1"]),
    ]
    return write_report(runs, folder / "out", title="A <title> & more").parent


def test_the_primary_table_comes_first_then_comparison_figures_and_cases(whole: Path) -> None:
    text = page(whole / "index.html")
    headings = (
        "primary",
        "comparison",
        "forest",
        "figures",
        "agreement",
        "strata",
        "false-lesion",
        "secondary",
        "cases",
        "runs",
    )
    order(text, *(f'id="{heading}"' for heading in headings))
    assert "Synthetic images, for research use" in text


def test_the_tables_hold_means_intervals_seeds_and_verdicts(whole: Path) -> None:
    text = words(whole / "index.html")
    assert re.search(
        r"Dice in patients with lesion higher is better 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] n = 3 0\.\d{3} \[.*?\] n = 3; "
        "2 seeds, SD",
        text,
    )
    assert "Dice of the segmenter on real images" in text
    assert re.search(r"ours − control Dice .*? unclear; p = 1\.000 \(Holm\)", text)
    assert re.search(r"MAE in the brain, DWI relative DWI; lower is better −0\.\d{3} \[−0\.\d+, −0\.\d+\] better", text)


def test_every_downstream_figure_names_the_segmenter_and_its_own_dice(whole: Path) -> None:
    text = page(whole / "index.html")
    note = (
        "Lesions were found by runs/segmenter/best.ckpt (3f7a9c0d3f7a); on the real images its own Dice in patients "
        "with lesion is 1.000"
    )
    for name in ("agreement", "strata", "false-lesion"):
        (figure,) = re.findall(rf'<figure class="figure" id="{name}">.*?</figure>', text, re.DOTALL)
        assert note in figure
    assert text.count(note) >= 4  # the primary table too


def test_runs_say_what_they_are(whole: Path) -> None:
    text = words(whole / "index.html")
    assert re.search(r"ours ours-seed1 posttrain ours-seed1/checkpoints/best.ckpt 1 3 runs/segmenter/best.ckpt", text)


def test_missing_volumes_are_told_and_the_rest_is_there(whole: Path) -> None:
    text = words(whole / "index.html")
    assert "No images of sub-2: no run has a file of its volumes; ctp-ldm test writes them" in text
    assert "sub-2 no images" in text
    assert len(list((whole / "cases").glob("*.html"))) == 3


def test_a_case_shows_the_first_seed_that_has_it(whole: Path) -> None:
    text = words(whole / "cases" / "sub-1-2.html")
    assert "missing" not in text
    assert "images those of one (ours: ours-seed1)" in text


def test_names_are_escaped_everywhere(whole: Path) -> None:
    for file in whole.rglob("*.html"):
        text = page(file)
        assert "<b>Söhne" not in text
        assert "A &lt;title&gt; &amp; more" in text
    assert "Ünal &amp; &lt;b&gt;Söhne" in page(whole / "index.html")
    assert all(re.fullmatch(r"[A-Za-z0-9._/-]+", f.relative_to(whole).as_posix()) for f in whole.rglob("*"))


def test_nothing_is_loaded_from_elsewhere(whole: Path) -> None:
    for file in whole.rglob("*"):
        if file.suffix in (".html", ".css", ".js", ".svg"):
            text = page(file).replace("http://www.w3.org/2000/svg", "")
            text = re.sub(r'^"[\w-]+": "[\w+/=]+",?$', "", text, flags=re.MULTILINE)  # levels of images
            assert not re.search(r"https?:|//[a-z]|@import|fetch\(|XMLHttpRequest|url\(['\"]?http", text), file
        if file.suffix == ".html":
            assert "default-src 'none'" in page(file)
            assert not re.search(r"<[^>]+ (style|on[a-z]+)=", page(file))  # which that policy would not allow


def test_every_link_and_picture_exists(whole: Path) -> None:
    for file in whole.rglob("*.html"):
        for target in re.findall(r'(?:href|src)="([^"#]+)', page(file)):
            assert target.startswith("data:") or (file.parent / target).is_file(), (file, target)


def test_the_size_is_stated(whole: Path) -> None:
    size = sum(file.stat().st_size for file in whole.rglob("*") if file.is_file())
    stated = re.search(
        r"This folder holds (\d+) kB in \d+ files; 3 of 4 cases have images", words(whole / "index.html")
    )
    assert stated is not None
    assert int(stated[1]) == pytest.approx(size / 1e3, abs=2)


def test_pictures_show_the_images(whole: Path) -> None:
    """Brightness rises from slice to slice."""
    data = json.loads(re.findall(r'id="case-data">(.*?)</script>', page(whole / "cases" / "sub-1-2.html"))[0])
    assert (data["size"], data["first"], data["start"]["axial"]) == ([5, 28, 24], 1, 1)
    script = page(whole / "cases" / "sub-1-2.js").removeprefix("const ctpImages = ").removesuffix(";\n")
    levels = zlib.decompress(base64.b64decode(json.loads(script)["0-real"]))
    picture = np.frombuffer(levels, np.uint8).reshape(data["size"])
    assert picture[:, 5, 12].tolist() == [round(255 * (0.8 + 0.1 * i) / 4) for i in range(5)]
    assert data["masks"]["reference"]["axial"][0] == ""
    assert data["masks"]["reference"]["axial"][1].startswith("M")
    assert set(data["masks"]) == {"reference", "real", "arm-0", "arm-1", "penumbra"}


def test_uncertainty_is_shown_where_there_are_samples(whole: Path) -> None:
    assert 'id="calibration"' in page(whole / "index.html")
    text = words(whole / "cases" / "sub-1-2.html")
    assert "ours: SD of samples" in text
    assert "control: SD of samples" not in text


def test_without_a_segmenter_the_primary_table_says_how_to_get_one(tmp_path: Path) -> None:
    text = words(write_report([make_run(tmp_path / "one", segmenter=False)], tmp_path / "out"))
    assert "lesion higher is better needs a segmenter: ctp-ldm test --segmenter CHECKPOINT" in text
    order(text, "Primary results", "MAE in the lesion, DWI", "Further metrics")
    assert "All patients, by MAE in the lesion, DWI of one" in text


def test_a_rival_without_images_is_beside_those_with(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "direct", images=False), make_run(tmp_path / "ours", seed=1)]
    out = write_report(runs, tmp_path / "out").parent
    text = words(out / "index.html")
    assert "direct makes no images: it finds lesions in its source" in text
    assert "was not measured" not in text
    assert "its own Dice in patients with lesion is 1.000 [1.000, 1.000]; direct finds lesions itself." in text
    assert re.search(r"ours − direct Dice .*? p = ", text)
    assert "MAE in the lesion, DWI relative DWI; lower is better – 0." in text
    case = words(out / "cases" / "sub-1-2.html")
    order(case, "before contrast", "direct: lesion found", "DWI, relative DWI real", "ours: synthetic", "ours: error")
    assert "direct: synthetic" not in case


def test_rivals_alone_are_reported_too(tmp_path: Path) -> None:
    out = write_report([make_run(tmp_path / "direct", images=False)], tmp_path / "out").parent
    assert "Lesions were found in the source, without synthetic images" in words(out / "index.html")
    assert "direct: lesion found" in words(out / "cases" / "sub-1-2.html")


def test_one_run_is_reported_without_comparison(tmp_path: Path) -> None:
    text = page(write_report([make_run(tmp_path / "one")], tmp_path / "out"))
    assert 'id="primary"' in text
    assert 'id="comparison"' not in text
    assert not (tmp_path / "out" / "figures" / "forest-1.svg").exists()


@pytest.mark.parametrize(
    ("patients", "message"),
    [({"sub-1": 5}, "one patient only"), ({"a": 0, "b": 0}, "No patient has a lesion"), ({"a": 0}, "one patient only")],
)
def test_odd_test_splits_are_reported_with_a_message(tmp_path: Path, patients: dict[str, int], message: str) -> None:
    runs = [make_run(tmp_path / "one", patients), make_run(tmp_path / "two", patients, seed=1)]
    text = words(write_report(runs, tmp_path / "out"))
    assert message in text
    assert "nan" not in text
    assert len(list((tmp_path / "out" / "cases").glob("*.html"))) == len(patients)


def test_damaged_and_unlike_volumes_are_told_on_the_case(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("one", "two")]
    (runs[1] / "test" / "volumes" / "sub-1.npz").write_bytes(b"")
    for run in runs:
        (run / "test" / "volumes" / "sub-2.npz").write_bytes(b"")
    out = write_report(runs, tmp_path / "out").parent
    assert re.search(r"two: \S+sub-1\.npz cannot be read", words(out / "cases" / "sub-1-2.html"))
    assert "no image of this run, see below" in words(out / "cases" / "sub-1-2.html")
    assert re.search(r"No images of sub-2: \S+sub-2\.npz cannot be read", words(out / "index.html"))


def test_runs_on_other_patients_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "two", {"sub-1": 3})]
    with pytest.raises(ComparisonError, match="tested on different patients"):
        write_report(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_made_again_is_the_same_and_fewer_cases_leave_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")

    def contents() -> dict[str, bytes]:
        out = tmp_path / "out"
        return {f.relative_to(out).as_posix(): f.read_bytes() for f in out.rglob("*") if f.is_file()}

    write_report([run], tmp_path / "out")
    first = contents()
    write_report([run], tmp_path / "out")
    assert contents() == first
    write_report([run], tmp_path / "out", cases=1)
    assert len(list((tmp_path / "out" / "cases").glob("*.html"))) == 1
    assert "1 have images: the worst, the median and the best in turn" in words(tmp_path / "out" / "index.html")


# ---------------------------------------------------------------------------------------------------------- the command


def test_the_command_prints_where_and_how_large(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "one")
    report([run], tmp_path / "out", cases=2)
    printed = capsys.readouterr().out
    assert re.search(rf"2 of {len(PATIENTS)} cases with images, \d+ kB", printed)
    assert f"report: {tmp_path / 'out' / 'index.html'}" in printed
    report([run], tmp_path / "out", cases="all")
    assert "4 of 4 cases" in capsys.readouterr().out


def test_a_negative_number_of_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--cases -1; expected a number of cases"):
        report([tmp_path], cases=-1)


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        (["a", "b", "--out", "o"], ['["a", "b"]', "--out", "o"]),
        (["--out", "o", "a", "--cases=3", "b"], ['["a", "b"]', "--out", "o", "--cases=3"]),
        (["a"], ['["a"]']),
        (["[a, b]", "--out", "o"], ["[a, b]", "--out", "o"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_runs_are_named_one_after_the_other(given: list[str], understood: list[str]) -> None:
    assert _listed(report, given) == understood


def test_other_commands_keep_their_words() -> None:
    def compare(runs: list[Path], out: Path) -> None: ...

    assert _listed(compare, ["[a, b]", "o"]) == ["[a, b]", "o"]
    assert _listed(compare, ["a", "o"]) == ["a", "o"]
