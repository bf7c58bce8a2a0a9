"""`ctp-ldm check` on small trees: every fault told with its file, what is merely odd, facts, units, and any task."""

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from ctp_ldm.cli import main
from ctp_ldm.data import Fingerprint, RelativeDWI, SliceStore
from ctp_ldm.data.check import Findings
from ctp_ldm.phantom import write_phantom

from . import trees
from .files import save
from .trees import ENCODINGS, GRID, MAPS, PLAIN, RELEASED, Damage, Encoding, Images, Names, Paths, changed

TIMED = Encoding(interval=1.0)
HALF_STEP = 2.0**-11
CTP_AND_MAPS = ["--data.sources={ctp: CTPerfusion, cbf: CBF, cbv: CBV, mtt: MTT, tmax: Tmax}"]


class Outcome(NamedTuple):
    """What a command printed, and what it ended with; empty where it ended well."""

    shown: str
    error: str


def run(*arguments: object) -> Outcome:
    """`ctp-ldm …` as from a shell."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        try:
            main([str(a) for a in arguments])
        except SystemExit as end:
            return Outcome(shown.getvalue(), str(end.code))
    return Outcome(shown.getvalue(), "")


def _write(root: Path, *seeds: int, encoding: Encoding = TIMED, names: Names = RELEASED) -> Path:
    """ISLES'24 with a patient for each seed."""
    for seed in seeds:
        trees.write_case(trees.isles24(root, seed, names), trees.patient(seed), encoding)
    return root


def _check(root: Path, *options: object) -> tuple[Fingerprint, Outcome]:
    """Check a tree, and read the fingerprint."""
    path = root.parent / "fingerprint.json"
    outcome = run("check", root, *GRID, "--json", path, *options)
    return Fingerprint.read(path), outcome


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good patients in ISLES'24, for reading only."""
    return _write(tmp_path_factory.mktemp("plain") / "tree", 1, 2)


@pytest.fixture(scope="session")
def plain_store(plain: Path) -> Path:
    """The store of `plain`, for reading only."""
    assert run("prepare", plain, plain.parent / "store", *GRID, *CTP_AND_MAPS).error == ""
    return plain.parent / "store"


@pytest.fixture
def tree(plain: Path, tmp_path: Path) -> Path:
    """A copy of `plain` to break."""
    return Path(shutil.copytree(plain, tmp_path / "tree"))


# --------------------------------------------------------------------------------------------------------------- faults


def _in_milliseconds(files: Paths) -> Path:
    trees.mistimed({"RepetitionTime": 1000})(files)
    return files["ctp"]


FAULTS: dict[str, tuple[Damage, str]] = {
    "CT through a window": (changed("ctp", lambda v: v.clip(0, 80)), "everything above 80 HU is cut off"),
    "CT in grey values": (
        changed("ctp", lambda v: np.round(v.clip(0, 400) * 255 / 400)),
        "cut off at 0 and at 255: grey",
    ),
    "CT of no known offset": (changed("ctp", lambda v: v + 976), "tissue seems to be at 10"),
    "b = 0 image as DWI": (changed("dwi", trees.twice_as_bright_in_fluid), "as bright in fluid as in normal brain"),
    "exponential ADC": (changed("adc", trees.exponential), "it is a DWI or an exponential ADC"),
    "truncated series": (trees.truncated("ctp"), "cannot be read as NIfTI"),
    "truncated map": (trees.truncated("cbf"), "cannot be read as NIfTI"),
    "non-finite map": (trees.not_finite("mtt"), "has 3 non-finite voxels of 8160"),
    "stray lesion mask alone": (trees.stray_lesion(alone=True), "has 20 × 20 × 20 voxels"),
    "shifted": (trees.shifted("dwi"), "corners lie 3 mm apart"),
    "no series": (trees.removed("ctp"), "ctp is missing: expected"),
    "no target": (trees.removed("adc"), "adc is missing: expected"),
    "no lesion mask": (trees.removed("lesion"), "lesion is missing: expected"),
    "lesion outside": (changed("lesion", trees.elsewhere), "only 0% of the lesion lies in the brain"),
    "no unit of ADC": (changed("adc", lambda v: v / 10), "expected 500–1400 in 1e-6 mm2/s or 0.5–1.4 in 1e-3 mm2/s"),
    "no unit of a map": (changed("cbv", lambda v: v * 30), "expected 0.4–15 in mL/100 g"),
    "neither air nor brain": (changed("ctp", lambda v: v + 512), "neither air nor brain is seen"),
    "DWI saved as ADC": (trees.copied("dwi", onto="adc"), "_dwi.nii.gz has the content of"),
    "series without time": (changed("ctp", lambda v: v[..., 0]), "34 × 40 × 6; expected a time series"),
    "volume with time": (changed("adc", lambda v: np.stack([v, v], -1)), "34 × 40 × 6 × 2; expected one volume"),
    "too few times": (trees.mistimed({"FrameTimesStart": [0, 1, 2]}), "has 3 values; expected 40"),
    "times of another unit": (_in_milliseconds, "has 40 frames over 39000.0 s"),
    "no bolus": (changed("ctp", trees.without_bolus), "no bolus is seen"),
    "bolus before the scan": (changed("ctp", trees.already_flooded), "no bolus is seen"),
    "no frame before contrast": (changed("ctp", trees.started_late), "no frame before contrast"),
    "stopped during the bolus": (changed("ctp", trees.stopped_early), "the scan ends before the bolus has passed"),
    "stopped after the bolus": (changed("ctp", trees.stopped_soon), "half of 15 phases of 2.5 s"),
    "too few frames": (changed("ctp", lambda v: v[..., :7]), "has 7 frames over 6.0 s"),
    "name unfit for a file": (trees.misnamed, "name unfit for a file"),
    "two files for a role": (trees.doubled("dwi"), "2 files for dwi"),
    "empty brain mask": (trees.empty_brain, "is empty; expected a brain mask"),
    "half of the brain": (changed("dwi", trees.half), "of the brain; expected an image of the whole brain"),
}
FINE: dict[str, Damage] = {
    "stray lesion mask beside the right one": trees.stray_lesion(alone=False),
    "rounded affine": trees.shifted("dwi", 1.6e-5),
    "no raw CT": trees.removed("ncct"),
}


class Broken(NamedTuple):
    """A tree in which every patient has one fault, and what `check` said.

    named: fault → the file that the message must name.
    patients: fault → patient.
    """

    root: Path
    named: dict[str, Path]
    patients: dict[str, str]
    fingerprint: Path
    outcome: Outcome

    def told(self, fault: str) -> list[str]:
        lines = self.outcome.error.splitlines()
        return [line for line in lines if line.startswith(f"  {self.patients[fault]}: ")]


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Broken:
    root, named, patients = tmp_path_factory.mktemp("broken") / "tree", {}, {}
    damages = {**{fault: damage for fault, (damage, _) in FAULTS.items()}, **FINE}
    for number, (fault, damage) in enumerate(damages.items(), 1):
        _write(root, number)
        named[fault] = damage(trees.isles24(root, number))
        patients[fault] = named[fault].name if fault == "name unfit for a file" else f"sub-stroke{number:04d}"
    path = root.parent / "fingerprint.json"
    return Broken(root, named, patients, path, run("check", root, *GRID, *CTP_AND_MAPS, "--json", path))


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_told_with_its_file_and_reason(broken: Broken, fault: str) -> None:
    reason = FAULTS[fault][1]
    assert any(broken.named[fault].name in line and reason in line for line in broken.told(fault)), broken.told(fault)


def test_all_faults_come_in_one_run_each_once_and_nothing_else_does(broken: Broken) -> None:
    error = broken.outcome.error
    lines = [line for line in error.splitlines() if line.startswith("  ")]
    assert {line.split(": ")[0].strip() for line in lines} == {broken.patients[fault] for fault in FAULTS}
    assert len(set(lines)) == len(lines)
    assert error.startswith(f"ctp-ldm: error: {len(lines)} fault(s):")
    assert error.endswith(f"{len(FINE)} of {len(FAULTS) + len(FINE)} cases are good")


def test_the_table_shows_who_has_faults_and_the_ranges_of_all(broken: Broken) -> None:
    shown = broken.outcome.shown
    for fault, patient in broken.patients.items():
        (row,) = [line for line in shown.splitlines() if line.lstrip().startswith(patient)]
        assert ("fault(s)" in row) == (fault in FAULTS)
    assert re.search(r"adc.median: median 7\d\d", shown)
    for role, unit in (("adc", "1e-6 mm2/s"), ("cbf", "mL/100 g/min"), ("ctp", "HU"), ("tmax", "s")):
        assert re.search(rf"unit of {role}: {re.escape(unit)} \(\d+\)", shown)


def test_swapped_files_are_refused_whatever_the_other_cases_hold(tree: Path) -> None:
    _write(tree, 3)
    dwi, adc = (trees.isles24(tree, 2)[role] for role in ("dwi", "adc"))
    parked = dwi.with_name("parked.nii.gz")
    dwi.rename(parked)
    adc.rename(dwi)
    parked.rename(adc)
    found, _ = _check(tree)
    assert [name for name, case in found.cases.items() if case.faults] == ["sub-stroke0002"]
    assert any("adc" in fault and "median" in fault for fault in found.cases["sub-stroke0002"].faults)


def test_of_two_copies_the_sound_one_is_kept(tree: Path) -> None:
    _write(tree, 3)
    trees.duplicated(trees.isles24(tree, 1))(trees.isles24(tree, 3))
    trees.isles24(tree, 1)["adc"].unlink()
    found, _ = _check(tree)
    assert [name for name, case in found.cases.items() if case.faults] == ["sub-stroke0001"]
    assert len(found.cases["sub-stroke0001"].faults) == 2


def test_one_patient_under_two_names_is_told_of_the_later_one(tree: Path) -> None:
    _write(tree, 3)
    trees.duplicated(trees.isles24(tree, 1))(trees.isles24(tree, 3))
    found, outcome = _check(tree)
    assert [name for name, case in found.cases.items() if case.faults] == ["sub-stroke0003"]
    assert "its ctp, adc, dwi have the content of sub-stroke0001's: one patient under two names" in outcome.error


def test_a_series_that_does_not_say_its_times_is_told_and_can_be_told(tmp_path: Path) -> None:
    images = {**trees.patient(1), "ctp": trees.patient(1)["ctp"][..., ::2][..., :15]}
    trees.write_case(trees.case_folder(tmp_path / "tree", "p1"), images)
    layout = "--data.layout=CaseFolders"
    _, outcome = _check(tmp_path / "tree", layout)
    assert re.search(
        r"p1: .*ctp\.nii\.gz does not say when its 15 frames were taken.*data\.frame_interval", outcome.error
    )
    found, outcome = _check(tmp_path / "tree", layout, "--data.frame_interval=2")
    assert outcome.error == ""
    assert found.cases["p1"].facts["ctp"].items() >= {"frames": 15, "interval": 2.0, "seconds": 28.0}.items()


def test_a_brain_larger_than_the_grid_is_a_fault(plain: Path) -> None:
    outcome = run("check", plain, "--workers=1", "--data.spacing=3", "--data.size=[32,40]")
    assert len(re.findall(r"sub-stroke000\d: the brain is 1\d\d mm wide.*enlarge size or spacing", outcome.error)) == 2


# -------------------------------------------------------------------------------------------------------------- remarks


def _moving(values: np.ndarray) -> np.ndarray:
    """The head moves by one voxel to the front in the middle of the scan."""
    return np.concatenate([values[..., :20], np.roll(values[..., 20:], 1, axis=1)], axis=-1)


def _spilled(values: np.ndarray) -> np.ndarray:
    """A sixth of the lesion lies in a corner."""
    values = values.copy()
    values[:2, :5, 0] = 1
    return values


def _on_the_rim(values: np.ndarray) -> np.ndarray:
    """A small lesion, most of it outside: two voxels of three."""
    values = np.zeros_like(values)
    values[0, :2, 0] = 1
    values[tuple(n // 2 for n in values.shape)] = 1
    return values


def _some(values: np.ndarray, share: float, replace: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    where = np.random.default_rng(0).random(values.shape) < share
    return np.where(where, replace(values), values)


def _darker_fluid(values: np.ndarray) -> np.ndarray:
    """As at b = 2000 s/mm²; fluid is what is darkest in the brain."""
    median = np.median(values[values > 0])
    return np.where(values < 0.75 * median, 0.1 * values, values)


def _ventricle_mask(files: Paths) -> Path:
    fluid = trees.values_of(files["adc"]) > 2000
    return save(files["lesion"], fluid.astype(np.uint8), trees.affine_of(files["adc"]))


REMARKS: dict[str, tuple[Damage, str]] = {
    "motion": (changed("ctp", _moving), r"ctp: the head moves by (5|6)\.\d mm"),
    "flipped lesion": (changed("lesion", lambda v: v[::-1]), r"lesion: ADC \d+%, DWI \d+% of the mirror site"),
    "lesion partly outside": (changed("lesion", _spilled), r"1\d% of the lesion lies outside the brain"),
    "small lesion mostly outside": (changed("lesion", _on_the_rim), "67% of the lesion lies outside the brain"),
    "negative": (changed("dwi", lambda v: _some(v, 0.1, np.negative)), r"dwi: is negative in (9|10|11)% of the brain"),
    "window": (changed("ctp", lambda v: v.clip(-100, 300)), r"ctp: is cut off at 300 HU, as by a window"),
    "holes": (
        changed("adc", lambda v: _some(v, 0.2, np.zeros_like)),
        r"adc: is 0 in (1[89]|2[0-2])% of the brain \(6 mm",
    ),
    "no water": (
        changed("adc", lambda v: np.where(v > 2000, 1500, v)),
        r"adc: at most 1500 × 10⁻⁶ mm²/s in fluid, which has 3000",
    ),
    "high b": (changed("dwi", _darker_fluid), r"dwi: fluid has 5% of the signal of tissue: of a b"),
    "dark brain": (
        changed("ctp", lambda v: v - 10.0 * (v > -500)),
        r"ctp: 1\d\.\d HU in the brain before contrast: another",
    ),
    "fluid as lesion": (_ventricle_mask, r"100% of the lesion is fluid by its ADC: a cavity or a ventricle\?"),
}


@pytest.mark.parametrize("seen", [*REMARKS, "brain cut"])
def test_what_is_odd_is_remarked_on_and_passes(tmp_path: Path, seen: str) -> None:
    files = trees.isles24(tmp_path / "tree", 1)
    if seen == "brain cut":
        images = {role: values[12:] for role, values in trees.patient(1).items()}
        trees.write_case({**files, "brain": trees.brain_beside(files["ctp"])}, images, TIMED)
        remark = "the brain reaches the edge of the field of view"
    else:
        trees.write_case(files, trees.patient(1), TIMED)
        damage, remark = REMARKS[seen]
        damage(files)
    found, outcome = _check(tmp_path / "tree")
    assert outcome.error == ""
    (remarked,) = found.cases["sub-stroke0001"].remarks
    assert re.match(remark, remarked)
    assert remarked in outcome.shown


def test_prepare_says_what_check_remarks_on_and_says_it_again_of_cases_that_are_kept(tmp_path: Path) -> None:
    files = trees.isles24(_write(tmp_path / "tree", 1, encoding=PLAIN), 1)
    changed("dwi", lambda v: _some(v, 0.1, np.negative))(files)
    found, _ = _check(tmp_path / "tree")
    remarks = found.cases["sub-stroke0001"].remarks
    assert len(remarks) == 2
    for _ in range(2):
        outcome = run("prepare", tmp_path / "tree", tmp_path / "store", *GRID)
        assert outcome.error == ""
        assert [f"sub-stroke0001: {remark}" in outcome.shown for remark in remarks] == [True, True]


def test_a_good_case_has_no_remarks(plain: Path) -> None:
    found, outcome = _check(plain)
    assert outcome.error == ""
    assert "2 cases without fault" in outcome.shown
    assert [(case.faults, case.remarks) for case in found.cases.values()] == [([], []), ([], [])]


def test_simulated_patients_of_the_tests_size_have_no_faults(shared_tree: Path, tmp_path: Path) -> None:
    outcome = run("check", shared_tree, *GRID, "--json", tmp_path / "fingerprint.json")
    assert outcome.error == ""
    assert Fingerprint.read(tmp_path / "fingerprint.json").units == {"adc": "1e-6 mm2/s", "ctp": "HU"}


def test_simulated_patients_of_small_size_have_neither_faults_nor_remarks(tmp_path: Path) -> None:
    write_phantom(tmp_path / "small", cases=2, seed=0, size="small", workers=1)
    outcome = run(
        "check", tmp_path / "small", "--data.spacing=3", "--data.size=[64,72]", "--workers=1", "--json", tmp_path / "f"
    )
    assert outcome.error == ""
    assert [found.remarks for found in Fingerprint.read(tmp_path / "f").cases.values()] == [[], []]


# ---------------------------------------------------------------------------------------------------------------- facts


def test_facts_are_what_the_patients_are_like(plain: Path) -> None:
    found, _ = _check(plain, *CTP_AND_MAPS)
    for seed in (1, 2):
        facts, truth = found.cases[f"sub-stroke{seed:04d}"].facts, trees.patient(seed)
        voxel_ml = np.prod(trees.SPACING) / 1000
        assert facts["grid"] == {
            "shape": [34, 40, 6],
            "spacing": [6.0, 6.0, 12.0],
            "orientation": "LAS",
            "oblique": 0.0,
        }
        assert facts["brain"]["ml"] == pytest.approx(truth["brain"].sum() * voxel_ml, rel=0.05)
        assert facts["lesion"] == {
            "ml": pytest.approx(truth["lesion"].sum() * voxel_ml),
            "parts": 1,
            "in_brain": 1.0,
            "binary": True,
            "fluid": 0.0,
        }
        assert facts["ctp"]["arrival"] == pytest.approx(trees.ARRIVAL_S, abs=1.5)
        assert facts["ctp"]["motion"] < 1.0
        for role in (*MAPS, "adc"):
            assert facts[role]["median"] == pytest.approx(float(np.median(truth[role][truth["brain"]])), rel=0.02)


@pytest.mark.parametrize(("axes", "tilt"), [("LPS", 15.0), ("SPR", 0.0)])
def test_orientation_and_tilt_are_facts(tmp_path: Path, axes: str, tilt: float) -> None:
    found, _ = _check(_write(tmp_path / "tree", 1, encoding=Encoding(axes=axes, tilt=tilt)))
    grid = found.cases["sub-stroke0001"].facts["grid"]
    assert (grid["orientation"], grid["oblique"], grid["spacing"]) == (axes, pytest.approx(tilt, abs=0.1), [6, 6, 12])


def test_a_fingerprint_comes_back_as_it_was_written(broken: Broken, tmp_path: Path) -> None:
    found = Fingerprint.read(broken.fingerprint)
    assert len(found.cases) == len(broken.patients)
    found.write(tmp_path / "below" / "again.json")
    assert Fingerprint.read(tmp_path / "below" / "again.json") == found
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["again.json"]


def test_a_fingerprint_says_ranges_and_counts_of_what_its_cases_have() -> None:
    cases = {
        str(i): Findings(str(i), {"grid": {"orientation": o}, "lesion": {"ml": v, "in_brain": None}})
        for i, (o, v) in enumerate([("LAS", 0.0), ("LPS", 10.0), ("LAS", 20.0)])
    }
    assert Fingerprint(cases, {}).summary() == {
        "grid.orientation": {"n": 3, "counts": {"LAS": 2, "LPS": 1}},
        "lesion.ml": {"n": 3, "min": 0.0, "q1": 5.0, "median": 10.0, "q3": 15.0, "max": 20.0},
    }


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"format": "ctp-ldm fingerprint", "version": 0}'])
def test_what_is_no_fingerprint_is_answered_with_how_to_make_one(
    plain: Path, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "fingerprint.json"
    if content is not None:
        path.write_text(content)
    outcome = run("prepare", plain, tmp_path / "store", *GRID, "--fingerprint", path)
    assert f"{path} is not a fingerprint" in outcome.error
    assert f"ctp-ldm check DATA --json {path}" in outcome.error


def test_csv_has_a_line_for_each_case_and_a_column_for_each_fact(tree: Path, tmp_path: Path) -> None:
    trees.removed("adc")(trees.isles24(tree, 2))
    run("check", tree, *GRID, "--csv", tmp_path / "below" / "facts.csv")
    table = pd.read_csv(tmp_path / "below" / "facts.csv").set_index("case")
    assert list(table.index) == ["sub-stroke0001", "sub-stroke0002"]
    assert pd.isna(table.loc["sub-stroke0001", "faults"])
    assert str(table.loc["sub-stroke0002", "faults"]).startswith("adc is missing")
    assert table.loc["sub-stroke0001", "ctp.frames"] == trees.FRAMES
    assert table.loc["sub-stroke0001", "grid.spacing.2"] == 12
    assert np.isnan(table.loc["sub-stroke0002", "adc.median"])


@pytest.mark.parametrize("name", ["=1+2", "+1", "-1", "@SUM(1)", "\t=1", "\uff1d1"])
def test_a_case_that_is_called_like_a_formula_is_refused_and_none_in_the_csv(tmp_path: Path, name: str) -> None:
    """So that no such name comes into a store, and from there into test/patients.csv."""
    (tmp_path / "tree" / name).mkdir(parents=True)
    (tmp_path / "tree" / name / "dwi.nii.gz").write_bytes(b"")
    outcome = run(
        "check", tmp_path / "tree", *GRID, "--data.layout=ctp_ldm.data.CaseFolders", "--csv", tmp_path / "f.csv"
    )
    assert f"{name}: name unfit for a file" in outcome.error
    table = pd.read_csv(tmp_path / "f.csv", dtype=str)
    assert list(table["case"]) == [f"'{name}"]
    assert not table.map(lambda cell: str(cell).startswith(("=", "+", "-", "@", "\t"))).any(axis=None)


# ---------------------------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("encoding", "adc", "ctp"),
    [
        (PLAIN, "1e-6 mm2/s", "HU"),
        (Encoding(adc=1e-3), "1e-3 mm2/s", "HU"),
        (ENCODINGS["all"], "1e-3 mm2/s", "HU+1024"),
    ],
    ids=["plain", "adc", "all"],
)
def test_units_are_what_all_good_cases_agree_on(tmp_path: Path, encoding: Encoding, adc: str, ctp: str) -> None:
    root = _write(tmp_path / "tree", 1, 2, encoding=encoding)
    assert _check(root)[0].units == {"adc": adc, "ctp": ctp}
    _write(root, 3, encoding=Encoding(adc=1e-6, ct_offset=encoding.ct_offset))
    assert _check(root)[0].units == {"ctp": ctp}
    trees.removed("lesion")(trees.isles24(root, 3))
    assert _check(root)[0].units == {"adc": adc, "ctp": ctp}


def _thin(seed: int) -> Images:
    """A stripped band of brain, so small in its field of view that too little of the CT is brain to tell its unit.

    A voxel of each slice stays, because slices of one value are not looked at.
    """
    images = dict(trees.patient(seed))
    kept = np.zeros_like(images["brain"])
    kept[:, 16:25, 3] = images["brain"][:, 16:25, 3]
    kept[18, 20] = images["brain"][18, 20]
    return {role: values * (kept[..., None] if values.ndim == 4 else kept) for role, values in images.items()}


def test_a_fingerprint_states_the_unit_of_a_case_that_does_not_tell_its_own(tree: Path, tmp_path: Path) -> None:
    trees.write_case(trees.isles24(tree, 3), _thin(3))
    outcome = run("prepare", tree, tmp_path / "refused", *GRID)
    assert re.search(r"sub-stroke0003: .*_ctp\.nii\.gz .*neither air nor brain", outcome.error)
    found, outcome = _check(tree)
    assert outcome.error == ""
    assert found.cases["sub-stroke0003"].facts["ctp"]["unit"] == found.units["ctp"] == "HU"
    outcome = run("prepare", tree, tmp_path / "store", *GRID, "--fingerprint", tree.parent / "fingerprint.json")
    assert outcome.error == ""
    assert len(SliceStore(tmp_path / "store").records) == 3


def test_units_that_no_good_case_tells_stay_open(tmp_path: Path) -> None:
    trees.write_case(trees.isles24(tmp_path / "tree", 1), _thin(1))
    assert "neither air nor brain" in _check(tmp_path / "tree")[1].error
    assert _check(tmp_path / "tree", "--data.units={ctp: HU}")[1].error == ""


@pytest.mark.parametrize(
    ("units", "answer"),
    [
        ("{ctp: HU+1024}", "ed HU\\+1024, as data.units or the other cases have it"),
        ("{ctp: Hounsfield}", "unit 'Hounsfield' is unknown; expected auto, HU or HU\\+1024"),
        ("{adc: mm2/s}", "has a median of 7\\d\\d in the brain; expected"),
        ("{dwi: HU}", "no unit can be stated for dwi; only for .*adc"),
        ("{flair: HU}", "no unit can be stated for flair"),
    ],
)
def test_units_that_do_not_fit_are_refused(plain: Path, units: str, answer: str) -> None:
    assert re.search(answer, run("check", plain, *GRID, f"--data.units={units}").error)


# ------------------------------------------------------------------------------------------------------ check → prepare


def test_known_faults_are_told_before_any_work(broken: Broken, tmp_path: Path) -> None:
    store = tmp_path / "store"
    outcome = run("prepare", broken.root, store, *GRID, *CTP_AND_MAPS, "--fingerprint", broken.fingerprint)
    assert outcome.error.endswith("nothing was prepared; mend the files and check again, or give --skip-invalid")
    assert sorted(outcome.error.splitlines()[1:-1]) == sorted(broken.outcome.error.splitlines()[1:-1])
    assert not store.exists()


def test_known_faults_are_left_out_on_request(broken: Broken, tmp_path: Path) -> None:
    options = [*GRID, *CTP_AND_MAPS, "--fingerprint", broken.fingerprint, "--skip-invalid"]
    outcome = run("prepare", broken.root, tmp_path / "store", *options)
    assert outcome.error == ""
    assert set(SliceStore(tmp_path / "store").records) == {broken.patients[name] for name in FINE}
    told = [line.removeprefix("left out:") for line in outcome.shown.splitlines() if line.startswith("left out:")]
    assert sorted(told) == sorted(line[1:] for line in broken.outcome.error.splitlines()[1:-1])


@pytest.mark.parametrize("role", ["ctp", "dwi", "adc"])
def test_a_file_that_changed_since_the_fingerprint_is_refused(tree: Path, tmp_path: Path, role: str) -> None:
    _check(tree)
    changed(role, lambda v: v * np.float32(1.01))(trees.isles24(tree, 2))
    options = [*GRID, "--fingerprint", tree.parent / "fingerprint.json"]
    outcome = run("prepare", tree, tmp_path / "store", *options)
    assert f"sub-stroke0002: {role} changed since the fingerprint was made; run ctp-ldm check again" in outcome.error
    assert "sub-stroke0001:" not in outcome.error
    _check(tree)
    assert run("prepare", tree, tmp_path / "store", *options).error == ""


def test_a_case_that_the_fingerprint_does_not_know_is_refused(tree: Path, tmp_path: Path) -> None:
    _check(tree)
    _write(tree, 3)
    outcome = run("prepare", tree, tmp_path / "store", *GRID, "--fingerprint", tree.parent / "fingerprint.json")
    assert "sub-stroke0003: is not in the fingerprint; run ctp-ldm check again" in outcome.error


# --------------------------------------------------------------------------------------------------------------- stores


def test_a_store_as_it_was_written_is_said_to_be(plain_store: Path) -> None:
    outcome = run("check", plain_store)
    assert outcome.error == ""
    assert "2 cases as they were written" in outcome.shown


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("kind", ["source", "target", "brain", "lesion"])
@pytest.mark.parametrize("damage", [_flip_a_bit, Path.unlink], ids=["bit", "missing"])
def test_a_damaged_file_of_a_store_is_named(
    plain_store: Path, tmp_path: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    store = Path(shutil.copytree(plain_store, tmp_path / "store"))
    damage(store / "cases" / "sub-stroke0002" / f"{kind}.npy")
    error = run("check", store).error
    assert "1 damaged file(s)" in error
    assert str(store / "cases" / "sub-stroke0002" / f"{kind}.npy") in error


# ---------------------------------------------------------------------------------------------------------------- tasks

TASKS = {
    "maps": ("{cbf: CBF, cbv: CBV, mtt: MTT, tmax: Tmax}", "{dwi: RelativeDWI, adc: ApparentDiffusion}", MAPS),
    "ncct": ("{ncct: NonContrastCT}", "{dwi: RelativeDWI, adc: ApparentDiffusion}", ("ncct",)),
    "ctp and maps": ("{ctp: CTPerfusion, tmax: Tmax}", "{adc: ApparentDiffusion}", ("tmax",)),
    "maps to map": ("{cbf: CBF, mtt: MTT}", "{tmax: Tmax}", ("cbf", "mtt")),
    "adc only": ("{ctp: CTPerfusion}", "{adc: ApparentDiffusion}", ()),
    "dwi only": ("{ncct: NonContrastCT}", "{dwi: RelativeDWI}", ("ncct",)),
}


def _require_channels(store: SliceStore, seed: int, name: str) -> None:
    """Channels of one file each hold the patient's own values in the brain, as far as their scaling reaches."""
    record, images = store.records[name], trees.patient(seed)
    brain = store.read(name, "brain") > 0
    for kind, channels in (("source", store.spec.source), ("target", store.spec.target)):
        for number, channel in enumerate(channels):
            if channel.name.startswith(("ctp", "dwi")):
                continue
            truth = channel.scaling.encode(record.geometry.to_grid(images[channel.name]))
            found = store.read(name, kind)[:, number]  # type: ignore[arg-type]
            np.testing.assert_allclose(found[brain], truth[brain], atol=HALF_STEP)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_a_matter_of_config(plain: Path, tmp_path: Path, task: str) -> None:
    sources, targets, single = TASKS[task]
    options = [*GRID, f"--data.sources={sources}", f"--data.targets={targets}"]
    assert run("check", plain, *options).error == ""
    assert run("prepare", plain, tmp_path / "store", *options).error == ""
    store = SliceStore(tmp_path / "store")
    names = [channel.name for channel in store.spec.source]
    assert set(single) <= set(names)
    assert len(names) == len(single) + 16 * ("ctp" in sources)
    assert store.spec.target_names == re.findall(r"(\w+):", targets)
    for seed in (1, 2):
        _require_channels(store, seed, f"sub-stroke{seed:04d}")


@pytest.mark.parametrize("with_adc", [True, False])
def test_dwi_alone_is_relative_to_normal_tissue_or_without_adc_to_the_whole_brain(
    tmp_path: Path, with_adc: bool
) -> None:
    files, images = trees.isles24(tmp_path / "tree", 1), dict(trees.patient(1))
    images["adc"] = np.where((images["adc"] > 0) & (images["adc"] < 800), 1200, images["adc"])  # grey matter is normal
    trees.write_case(files, images)
    if not with_adc:
        files["adc"].unlink()
    options = [*GRID, "--data.sources={ncct: NonContrastCT}", "--data.targets={dwi: RelativeDWI}"]
    assert run("prepare", tmp_path / "tree", tmp_path / "store", *options).error == ""
    store = SliceStore(tmp_path / "store")
    brain = store.read("sub-stroke0001", "brain") > 0
    grid = store.records["sub-stroke0001"].geometry
    dwi, adc = (grid.to_grid(images[role])[brain] for role in ("dwi", "adc"))
    reference = np.median(dwi[(adc >= 650) & (adc <= 950)] if with_adc else dwi)
    found = RelativeDWI().scaling.decode(store.read("sub-stroke0001", "target")[:, 0][brain].astype(np.float32))
    np.testing.assert_allclose(found, (dwi / reference).clip(0, 4), atol=2 * HALF_STEP * 4)


@pytest.mark.parametrize("folders", [False, True], ids=["flat", "dwi-anat"])
def test_mri_alone_is_a_task(tmp_path: Path, folders: bool) -> None:
    for seed in (1, 2):
        trees.write_case(
            trees.isles22(tmp_path / "tree", seed, folders=folders), trees.patient(seed), Encoding(adc=1e-3)
        )
    options = [*GRID, "--data.layout=ISLES22", "--data.targets={adc: ApparentDiffusion}"]
    options.append("--data.sources={dwi: {class_path: RelativeDWI, init_args: {adc: null}}}")
    found, outcome = _check(tmp_path / "tree", *options)
    assert outcome.error == ""
    assert found.units == {"adc": "1e-3 mm2/s"}
    assert run("prepare", tmp_path / "tree", tmp_path / "store", *options).error == ""
    for seed in (1, 2):
        _require_channels(SliceStore(tmp_path / "store"), seed, f"sub-strokecase{seed:04d}")


def test_isles18_is_for_prediction_and_for_what_it_has(tmp_path: Path) -> None:
    encoding = Encoding(interval=1.0, fifth_axis=True)
    for seed, part in ((1, "TRAINING"), (2, "TESTING")):
        trees.write_case(trees.isles18(tmp_path / "tree", seed, part), trees.patient(seed), encoding)
    layout = "--data.layout=ISLES18"
    found, outcome = _check(tmp_path / "tree", layout)
    assert len(re.findall(r"training_case_1: (?:dwi|adc) is missing.*--sources-only", outcome.error)) == 2
    assert len(re.findall(r"testing_case_2: (?:dwi|adc|lesion) is missing.*--sources-only", outcome.error)) == 3
    found, outcome = _check(tmp_path / "tree", layout, "--sources-only")
    assert outcome.error == ""
    assert set(found.cases) == {"training_case_1", "testing_case_2"}
    found, outcome = _check(tmp_path / "tree" / "TRAINING", layout, "--data.targets={tmax: Tmax}")
    assert outcome.error == ""
    assert found.units == {"ctp": "HU", "tmax": "s"}


def test_a_datalist_is_checked_and_prepared_like_a_layout(tmp_path: Path) -> None:
    files = {seed: trees.decathlon(tmp_path / "tree", f"p{seed}") for seed in (1, 2)}
    for seed, paths in files.items():
        trees.write_case(paths, trees.patient(seed), Encoding(interval=1.0))
    listed = [{"image": p["ctp"], "label": p["lesion"], "dwi": p["dwi"], "adc": p["adc"]} for p in files.values()]
    trees.write_datalist(tmp_path / "tree" / "dataset.json", {"training": listed})
    layout = {"class_path": "Datalist", "init_args": {"keys": {"image": "ctp", "label": "lesion"}}}
    options = [*GRID, f"--data.layout={json.dumps(layout)}"]
    assert run("check", tmp_path / "tree", *options).error == ""
    assert run("prepare", tmp_path / "tree", tmp_path / "store", *options).error == ""
    for seed in (1, 2):
        _require_channels(SliceStore(tmp_path / "store"), seed, f"p{seed}")


# ---------------------------------------------------------------------------------------- spellings mean the same thing

SPELLED = {
    **{name: (RELEASED, encoding) for name, encoding in ENCODINGS.items()},
    "other names": (Names("train", "rawdata", "sub-strokecase", "ses-000", "lesion-msk", ".nii"), ENCODINGS["all"]),
}


@pytest.mark.parametrize("spelling", SPELLED)
def test_every_spelling_of_a_tree_makes_the_same_store(plain_store: Path, tmp_path: Path, spelling: str) -> None:
    names, encoding = SPELLED[spelling]
    root = _write(tmp_path / "tree", 1, 2, encoding=encoding, names=names)
    assert run("prepare", root, tmp_path / "store", *GRID, *CTP_AND_MAPS).error == ""
    expected, found = SliceStore(plain_store), SliceStore(tmp_path / "store")
    assert found.spec == expected.spec
    for plain_name, name in zip(expected.records, found.records, strict=True):
        for kind in ("source", "target", "brain", "lesion"):
            np.testing.assert_allclose(
                found.read(name, kind).astype(np.float32),
                expected.read(plain_name, kind).astype(np.float32),
                atol=HALF_STEP if kind in ("source", "target") else 0,
            )


# ---------------------------------------------------------------------------------------------------------- a real case


def test_a_real_isles22_case_is_read_as_what_it_is(shared_data: Path, tmp_path: Path) -> None:
    root, name = shared_data / "isles22", "sub-strokecase0009"
    options = ["--data.layout=ISLES22", "--data.sources={dwi: RelativeDWI}", "--data.targets={adc: ApparentDiffusion}"]
    options += ["--data.spacing=2", "--data.size=[96,112]", "--workers=1"]
    outcome = run("check", root, *options, "--json", tmp_path / "fingerprint.json")
    assert outcome.error == ""
    found = Fingerprint.read(tmp_path / "fingerprint.json")
    assert found.units == {"adc": "1e-3 mm2/s"}
    facts = found.cases[name].facts
    assert facts["grid"].items() >= {"shape": [112, 112, 73], "spacing": [2.0, 2.0, 2.0], "orientation": "LAS"}.items()
    assert facts["lesion"]["ml"] == pytest.approx(523 * 0.008)
    assert facts["lesion"]["in_brain"] == 1.0
    assert 1000 < facts["brain"]["ml"] < 1800
    assert 700 < facts["adc"]["median"] < 1000
    assert facts["dwi"]["median"] == pytest.approx(1.0, abs=0.1)
    assert found.cases[name].remarks == []
    options += ["--fingerprint", str(tmp_path / "fingerprint.json")]
    assert run("prepare", root, tmp_path / "store", *options).error == ""
    store = SliceStore(tmp_path / "store")
    assert store.read(name, "lesion").sum() == 523
    assert store.read(name, "source").shape == (73, 1, 96, 112)
