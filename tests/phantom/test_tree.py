"""The files: layout, geometry, determinism, resuming and refusing."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from launching import wait_for
from scipy.ndimage import binary_fill_holes, label

from ctp_ldm.commands import run_command
from ctp_ldm.phantom import Mix, tree, write_phantom
from ctp_ldm.phantom.files import MAPS

from .conftest import CASES, MIX, SEED


def _files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def _load(path: Path) -> tuple[np.ndarray, nib.Nifti1Image]:
    image = nib.Nifti1Image.from_filename(path)
    return np.asarray(image.dataobj), image


def _participants(out: Path) -> list[dict[str, str]]:
    header, *rows = [line.split("\t") for line in (out / "participants.tsv").read_text().splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_layout(phantom: Path) -> None:
    case = phantom / "derivatives" / "sub-stroke0001"
    assert sorted(str(p.relative_to(case)) for p in case.rglob("*") if p.is_file()) == [
        *[f"ses-01/perfusion-maps/sub-stroke0001_ses-01_space-ncct_{kind}.nii.gz" for kind in MAPS],
        "ses-01/sub-stroke0001_ses-01_space-ncct_ctp.json",
        "ses-01/sub-stroke0001_ses-01_space-ncct_ctp.nii.gz",
        "ses-02/sub-stroke0001_ses-02_space-ncct_adc.nii.gz",
        "ses-02/sub-stroke0001_ses-02_space-ncct_dwi.nii.gz",
        "ses-02/sub-stroke0001_ses-02_space-ncct_lesion-msk.nii.gz",
    ]
    assert len(list((phantom / "derivatives").iterdir())) == CASES
    assert "imulated" in json.loads((phantom / "dataset_description.json").read_text())["Description"]


@pytest.mark.parametrize("cases", [2, CASES])
def test_the_datalist_names_every_image_of_the_cases_asked_for_but_no_answer(
    phantom: Path, tmp_path: Path, cases: int
) -> None:
    """Those of the last run, as the split has them, whether the one before was of more cases or of fewer."""
    out = Path(shutil.copytree(phantom, tmp_path / "copy"))
    for asked in (CASES - 1, cases):
        write_phantom(out, cases=asked, seed=SEED, size="tiny", workers=1, mix=MIX)
    listed = json.loads((out / "datalist.json").read_text())["cases"]
    names = [f"sub-stroke{i:04d}" for i in range(1, cases + 1)]
    assert [case["name"] for case in listed] == names
    split = json.loads((out / "split.json").read_text())
    assert split["train"] + split["val"] + split["test"] == names
    for case in listed:
        answers = [out / "truth" / case["name"] / f"{case['name']}_space-ncct_{k}.nii.gz" for k in ("core", "tissue")]
        images = {out / path for role, path in case.items() if role != "name"}
        assert images == {p for p in out.rglob(f"{case['name']}_*.nii.gz") if p not in answers}
        truth = {role: path for role, path in case.items() if role.startswith("true_")}
        start = f"truth/{case['name']}/{case['name']}_space-ncct"
        assert truth == {f"true_{kind}": f"{start}_{kind}.nii.gz" for kind in ("cbf", "cbv", "mtt", "delay")}


def test_geometry_agrees_within_and_varies_between_cases(phantom: Path) -> None:
    orders, oblique, origins = set(), [], set()
    for index in range(1, CASES + 1):
        files = tree.case_files(phantom, index)
        ctp_path, sidecar = files.pop("ctp"), files.pop("times")
        ctp = nib.Nifti1Image.from_filename(ctp_path)
        times = json.loads(sidecar.read_text())["FrameTimesStart"]
        assert ctp.shape[3] == len(times)
        assert np.isclose(ctp.header.get_zooms()[3], times[1] - times[0], atol=1e-3)
        assert ctp.header.get_xyzt_units() == ("mm", "sec")
        assert times[0] == 0
        assert np.all(np.diff(times) > 0)
        for path in files.values():
            image = nib.Nifti1Image.from_filename(path)
            assert image.shape == ctp.shape[:3]
            np.testing.assert_array_equal(image.affine, ctp.affine)
        orders.add(nib.aff2axcodes(ctp.affine))
        oblique.append(np.rad2deg(nib.affines.obliquity(ctp.affine)).max())
        origins.add(tuple(ctp.affine[:3, 3]))
    assert orders == {("L", "A", "S"), ("L", "P", "S"), ("R", "A", "S")}
    assert 1 < np.max(oblique) < 15
    assert len(origins) == CASES


def test_brain_is_soft_tissue_enclosed_by_bone(phantom: Path) -> None:
    """Also at 6 mm a skull above 300 HU closes around the brain, with air all around the head."""
    for index in range(1, CASES + 1):
        ctp_path, adc_path, mask_path = (tree.case_files(phantom, index)[kind] for kind in ("ctp", "adc", "lesion"))
        ctp, image = _load(ctp_path)
        hu = ctp[..., :2].mean(axis=-1)
        middle = hu.shape[2] // 2
        bone = hu[..., middle] > 300
        enclosed = binary_fill_holes(bone) & ~bone
        soft, count = label(enclosed & (hu[..., middle] > 0) & (hu[..., middle] < 100))
        assert count >= 1
        brain = soft == np.bincount(soft.ravel())[1:].argmax() + 1
        area = brain.sum() * np.prod(image.header.get_zooms()[:2])
        assert 9_000 < area < 22_000  # mm^2, a brain's section
        rim = np.concatenate([hu[0].ravel(), hu[-1].ravel(), hu[:, 0].ravel(), hu[:, -1].ravel()])
        assert rim.max() < -500  # at most part of a voxel
        adc, _ = _load(adc_path)
        assert np.median(adc[..., middle][brain]) > 600
        lesion = _load(mask_path)[0][..., middle] > 0
        assert not np.any(lesion & ~enclosed & ~bone)


def test_units(phantom: Path) -> None:
    for index in range(1, CASES + 1):
        files = tree.case_files(phantom, index)
        ctp, dwi, adc, mask = (_load(files[kind])[0] for kind in ("ctp", "dwi", "adc", "lesion"))
        assert ctp.min() >= -1024
        assert ctp.max() > 400
        assert dwi.min() >= 0
        assert adc.min() >= 0
        assert 2000 < adc.max() <= 4000
        assert set(np.unique(mask)) <= {0, 1}


def test_participants_tell_the_truth_and_lesion_free_is_empty(phantom: Path) -> None:
    rows = _participants(phantom)
    assert [row["participant_id"] for row in rows] == [f"sub-stroke{i:04d}" for i in range(1, CASES + 1)]
    assert {row["kind"] for row in rows} >= {"lesion-free", "territorial"}
    assert sum(row["kind"] == "lesion-free" for row in rows) == pytest.approx(0.25 * CASES, abs=1)
    for index, row in enumerate(rows, start=1):
        mask, image = _load(tree.case_files(phantom, index)["lesion"])
        volume = mask.sum() * np.prod(image.header.get_zooms()) / 1000
        assert float(row["lesion_ml"]) == pytest.approx(volume, abs=0.01)
        # Voxels of half a millilitre may swallow a lacune.
        if row["kind"] not in ("lacune", "emboli"):
            assert (volume == 0) == (row["kind"] in ("lesion-free", "hypoperfusion"))


def test_same_bytes_with_other_workers_and_number_of_cases(phantom: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "again", cases=3, seed=SEED, size="tiny", workers=2, mix=MIX)
    first, again = _files(phantom), _files(tmp_path / "again")
    cases = [name for name in again if name.startswith("derivatives")]
    assert sum(name.startswith("truth") for name in again) == 3 * 6
    assert len(cases) == 3 * 9
    assert all(first[name] == again[name] for name in cases)


def test_other_seed_other_patients(phantom: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "other", cases=1, seed=SEED + 1, size="tiny", workers=1, mix=MIX)
    name = "derivatives/sub-stroke0001/ses-02/sub-stroke0001_ses-02_space-ncct_adc.nii.gz"
    assert (phantom / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_resume_completes_and_keeps(tmp_path: Path) -> None:
    out = tmp_path / "phantom"
    write_phantom(out, cases=3, size="tiny", workers=1)
    whole = _files(out)
    tree.case_files(out, 2)["dwi"].unlink()
    tree.case_files(out, 1)["true_cbf"].unlink()
    (out / "participants.tsv").unlink()
    kept = tree.case_files(out, 3)["ctp"]
    stamp = kept.stat().st_mtime_ns

    folders = write_phantom(out, cases=3, size="tiny", workers=1)

    assert _files(out) == whole
    assert kept.stat().st_mtime_ns == stamp
    assert [folder.name for folder in folders] == [f"sub-stroke000{i}" for i in (1, 2, 3)]


def test_workers_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ctp_ldm", "phantom", str(tmp_path / "out"), "--size=tiny", "--cases=5000"]
    command = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: any(tmp_path.glob("out/derivatives/*")))
        command.kill()
        command.wait()
        wait_for(lambda: not _is_there(command.pid), seconds=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_refuses_foreign_folders(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        write_phantom(tmp_path, cases=1, size="tiny")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]

    bids = tmp_path / "bids"
    bids.mkdir()
    (bids / "dataset_description.json").write_text('{"Name": "patients"}')
    with pytest.raises(FileExistsError, match="another dataset"):
        write_phantom(bids, cases=1, size="tiny")
    with pytest.raises(NotADirectoryError, match=r"notes\.txt"):
        write_phantom(tmp_path / "notes.txt", cases=1, size="tiny")


def test_a_phantom_of_another_version_is_never_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantom(tmp_path / "out", cases=1, size="tiny", workers=1)
    before = _files(tmp_path / "out")
    monkeypatch.setattr(tree, "VERSION", tree.VERSION + 1)
    with pytest.raises(FileExistsError, match=r"holds a phantom with settings .*Name a new or empty folder"):
        write_phantom(tmp_path / "out", cases=2, size="tiny", workers=1)
    assert _files(tmp_path / "out") == before


def test_shares_of_the_mix_are_set_from_the_command(tmp_path: Path) -> None:
    words = ["--cases=4", "--size=tiny", "--workers=1", "--mix.lacune", "1", "--mix.emboli=0", "--mix.mri=follow-up"]
    zero = ["--mix.lesion_free=0", "--mix.hypoperfusion=0"]
    run_command("phantom", [str(tmp_path / "out"), *words, *zero])
    rows = _participants(tmp_path / "out")
    assert {row["kind"] for row in rows} == {"lacune"}
    assert all(float(row["mri_hours"]) > 48 for row in rows)
    described = json.loads((tmp_path / "out" / "dataset_description.json").read_text())["Phantom"]["mix"]
    assert (described["lacune"], described["mri"], described["late"]) == (1, "follow-up", Mix().late)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mix.lesionfree", "0.4"], "mix: found lesionfree, expected emboli, lacune"),
        (
            ["--mix.lesion_free", "0.9", "--mix.emboli", "0.3"],
            r"mix: emboli \+ lacune .* found 1.35, expected at most 1",
        ),
        (["--mix.late", "-1"], r"mix\.late: found -1.*expected a share from 0 to 1"),
        (["--mix.late", "often"], r"mix\.late: found 'often', expected a share"),
        (["--parts", "[0,0,0]"], "expected three numbers of patients"),
        (["--cases", "0"], "cases: found 0, expected at least 1"),
        (["--describe", "--cases", "0"], "cases: found 0, expected at least 12"),
        (["--describe", "--from-mri", "somewhere"], "--describe and --from-mri do not go together"),
    ],
)
def test_impossible_commands_are_answered_before_any_work(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_command("phantom", [str(tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()


def test_an_unknown_preset_is_answered_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command("phantom", [str(tmp_path / "out"), "--preset", "easy"])
    shown = capsys.readouterr().err
    assert "easy" in shown
    assert "outcome" in shown
    assert not (tmp_path / "out").exists()


def test_refuses_a_phantom_with_other_settings(phantom: Path) -> None:
    with pytest.raises(FileExistsError, match="settings"):
        write_phantom(phantom, cases=1, seed=SEED, size="tiny", mix=Mix())


@pytest.mark.parametrize("arguments", [{"cases": 0}, {"seed": -1}, {"size": "huge"}, {"workers": 0}])
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict[str, object]) -> None:
    (name, value) = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=rf"{name}: found {value!r}, expected"):
        write_phantom(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
