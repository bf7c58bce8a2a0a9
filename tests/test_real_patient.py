"""One real ISLES'22 patient (DWI, ADC, lesion mask) with a simulated CTP, through check, prepare, fit and predict."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from metrics.brains import goodness, judged, order
from running import SMALL, Command, configs_of, shrunk
from scipy import ndimage
from skimage.morphology import remove_small_objects

from ctp_ldm.data import SliceStore
from ctp_ldm.metrics import FINDS_LESS, PatientVolumes, chains_difference, describe, evaluate_patient, finds, judgement

GRID = ["--data.spacing=4", "--data.size=[48,56]"]
NAMES = ("sub-a", "sub-b", "sub-c")


@pytest.fixture
def tree(shared_data: Path, tmp_path: Path) -> Path:
    """The patient three times over (training needs three parts), as an ISLES'24 tree.

    One image under two names is a fault, so each copy has noise of its own, of a hundredth of its spread.
    """
    raw = shared_data / "isles22/rawdata/sub-strokecase0009/ses-0001"
    dwi = next(raw.glob("*_dwi.nii.gz"))
    mask = next((shared_data / "isles22/derivatives").rglob("*_msk.nii.gz"))
    root = tmp_path / "isles"
    for seed, name in enumerate(NAMES):
        first, second = (root / "derivatives" / name / session for session in ("ses-01", "ses-02"))
        first.mkdir(parents=True)
        second.mkdir(parents=True)
        for kind in ("dwi", "adc"):
            _copy_with_noise(
                next(raw.glob(f"*_{kind}.nii.gz")), second / f"{name}_ses-02_space-ncct_{kind}.nii.gz", seed
            )
        shutil.copy(mask, second / f"{name}_ses-02_space-ncct_lesion-msk.nii.gz")
        lesion = nib.load(mask).get_fdata() > 0.5
        _write_ctp(nib.load(dwi), lesion, first / f"{name}_ses-01_space-ncct_ctp.nii.gz", seed)
    return root


def _copy_with_noise(source: Path, path: Path, seed: int) -> None:
    image = nib.load(source)
    values = image.get_fdata(dtype=np.float32)
    noise = np.random.default_rng(seed).normal(0, 0.01 * values.std(), values.shape)
    nib.save(nib.Nifti1Image(np.where(values > 0, values + noise, values).astype(np.float32), image.affine), path)


def _write_ctp(dwi: nib.Nifti1Image, lesion: np.ndarray, path: Path, seed: int) -> None:
    """Skull-stripped head on the DWI's grid: 35 HU, a bolus of 8 HU, half of it in the lesion."""
    times = 2.5 * np.arange(20)
    bolus = 8 * np.exp(-(((times - 20) / 6) ** 2))
    brain = brain_of(dwi)
    flow = brain * np.where(lesion, 0.5, 1.0)
    series = np.where(brain[..., None], 35 + flow[..., None] * bolus, 0)
    series += brain[..., None] * np.random.default_rng(seed).normal(0, 2, series.shape)
    image = nib.Nifti1Image(series.astype(np.int16), dwi.affine)
    image.header.set_zooms((*dwi.header.get_zooms()[:3], 2.5))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def brain_of(dwi: nib.Nifti1Image) -> np.ndarray:
    values = dwi.get_fdata()
    labels, _ = ndimage.label(values > 0.1 * np.percentile(values, 99))
    return ndimage.binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)


def test_a_real_patient_goes_through_the_pipeline_and_comes_back_on_its_own_grid(
    tree: Path, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("check", tree, *GRID, "--workers=1")
    assert "3 cases without fault" in capsys.readouterr().out
    command("prepare", tree, "store", *GRID, "--workers=1")
    _require_plausible(SliceStore(Path("store")), tree)
    _fit_and_predict(command, tree, tmp_path)
    dwi = nib.load(tree / "derivatives/sub-a/ses-02/sub-a_ses-02_space-ncct_dwi.nii.gz")
    for target in ("dwi", "adc"):
        image = nib.load(f"runs/diffusion/predictions/sub-a/sub-a_desc-synthetic_{target}.nii.gz")
        assert image.shape == dwi.shape
        assert np.allclose(image.affine, dwi.affine, atol=1e-4)
        assert nib.aff2axcodes(image.affine) == nib.aff2axcodes(dwi.affine) == ("L", "A", "S")
        drawn, brain = image.get_fdata() > 0, brain_of(dwi)
        assert 2 * (drawn & brain).sum() / (drawn.sum() + brain.sum()) > 0.93
    sidecar = json.loads(Path("runs/diffusion/predictions/sub-a/sub-a_desc-synthetic_adc.json").read_text())
    assert sidecar["Units"] == "10⁻⁶ mm²/s"
    assert sidecar["EffectiveSliceThickness"] == pytest.approx(73 * 2 / 29, abs=1e-3)  # nearest to 5 mm
    assert "interpolated" in sidecar["SliceNote"]


def _require_plausible(store: SliceStore, tree: Path) -> None:
    """The ADC file is in 10⁻³ mm²/s, the mask has 523 voxels of 2 mm."""
    record = store.records["sub-a"]
    scaling = {c.name: c.scaling for c in store.spec.target}
    brain, lesion = store.read("sub-a", "brain") > 0, store.read("sub-a", "lesion") > 0
    dwi, adc = (store.read("sub-a", "target")[:, i].astype(np.float32) for i in range(2))
    assert 600 < np.median(scaling["adc"].decode(adc)[brain]) < 1100
    assert np.median(scaling["dwi"].decode(dwi)[brain]) == pytest.approx(1, abs=0.15)
    assert lesion.sum() * record.geometry.voxel_ml == pytest.approx(523 * 0.008, rel=0.3)
    assert scaling["dwi"].decode(dwi)[lesion].mean() > 1.3
    assert record.geometry.slices == 29
    raw = nib.load(next((tree / "derivatives/sub-a/ses-02").glob("*adc*"))).get_fdata()
    back = record.geometry.from_grid(scaling["adc"].decode(adc), brain)
    inside = record.geometry.from_grid(ndimage.binary_erosion(brain, np.ones((1, 5, 5))).astype(np.float32)) > 0.99
    assert np.corrcoef(raw[inside], back[inside])[0, 1] > 0.8


def _fit_and_predict(command: Command, tree: Path, folder: Path) -> None:
    base = "null"
    for stage in ("autoencoder", "diffusion"):
        arguments = [
            *configs_of(f"demo/{stage}.yaml"),
            *shrunk(f"demo/{stage}.yaml", folder),
            *SMALL,
            *GRID,
            "--data.store=store",
            f"--init_from={base}",
            f"--trainer.default_root_dir=runs/{stage}",
            "--trainer.max_steps=2",
            "--trainer.val_check_interval=2",
        ]
        command("fit", *arguments)
        base = f"runs/{stage}/checkpoints/best.ckpt"
    command("predict", *arguments, f"--data.predict_from={tree}")


@pytest.fixture
def copies(tree: Path, command: Command) -> list[PatientVolumes]:
    """The real patient's DWI and ADC, with each noise, on a grid of 2 mm, as if they were synthetic."""
    command(
        "prepare",
        tree,
        "store",
        "--data.spacing=2",
        "--data.size=[96,112]",
        "--data.slice_thickness=null",
        "--workers=1",
    )
    return [_volumes(SliceStore(Path("store")), name) for name in NAMES]


def _volumes(store: SliceStore, name: str) -> PatientVolumes:
    target, brain, lesion = (np.array(store.read(name, kind)) for kind in ("target", "brain", "lesion"))
    image = store.spec.decode_target(torch.from_numpy(target)).numpy() * brain[:, None]
    thickness = store.records[name].geometry.slice_distance
    return PatientVolumes(
        name, (thickness, 2.0, 2.0), ("dwi", "adc"), ("", ""), image, image, brain > 0, lesion=(lesion * brain) > 0
    )


def _evaluated(real: PatientVolumes, image: np.ndarray) -> dict[str, float]:
    """By a rule that reads the lesion."""

    def read(values: np.ndarray) -> np.ndarray:
        restricted = (values[:, 0] > 1.5) & (values[:, 1] < 650) & real.brain
        return np.asarray(remove_small_objects(restricted, max_size=20))

    copy = replace(real, synthetic=image * real.brain[:, None], found=read(image), found_real=read(real.real))
    return evaluate_patient(copy, (4.0, 3000.0))


def _faults(real: PatientVolumes) -> dict[str, dict[str, float]]:
    lesion, image = real.lesion, real.real
    assert lesion is not None
    inside = np.array([np.median(image[:, i][lesion]) for i in range(2)], dtype=np.float32)[None, :, None, None]
    more = ndimage.binary_dilation(lesion, iterations=5) & real.brain & ~lesion
    median = np.median(image.transpose(0, 2, 3, 1)[real.brain], axis=0)[None, :, None, None]
    return {
        "perfect": _evaluated(real, image),
        "blurred": _evaluated(real, ndimage.gaussian_filter(image, (0, 0, 1.5, 1.5))),
        "shifted": _evaluated(real, np.roll(image, 4, axis=3)),
        "erased": _evaluated(real, np.where(lesion[:, None], np.flip(image, axis=2), image)),
        "painted": _evaluated(real, np.where(more[:, None], inside, image)),
        "blank": _evaluated(real, np.broadcast_to(median, image.shape)),
    }


def test_a_blank_image_of_a_real_patient_is_judged_better_than_none(copies: list[PatientVolumes]) -> None:
    """It has less false lesion than any other has, and finds nothing."""
    every = [_faults(copy) for copy in copies]
    arms = {fault: pd.DataFrame([rows[fault] for rows in every], index=NAMES) for fault in every[0]}

    def judged(ours: str, theirs: str) -> dict[str, str]:
        columns = ("lesion_dice", "sensitivity", "false_ml", "false_near_ml", "false_far_ml", "precision", "hd95_mm")
        change = {c: chains_difference(arms[ours][[c]], arms[theirs][[c]]) for c in columns}
        found = finds(arms[ours][["sensitivity"]], arms[theirs][["sensitivity"]], change["lesion_dice"])
        return {column: judgement(describe(column), change[column], found) for column in columns}

    for other in set(arms) - {"blank"}:
        assert "better" not in judged("blank", other).values(), other
    assert judged("blank", "painted")["false_ml"] == FINDS_LESS
    perfect = judged("perfect", "painted")
    assert perfect["sensitivity"] == "worse", "small parts are read only where what is painted makes them larger"
    assert perfect["lesion_dice"] == perfect["false_ml"] == perfect["precision"] == "better"


def test_faults_of_a_real_patients_image_have_the_expected_order_in_every_metric(
    copies: list[PatientVolumes],
) -> None:
    """Perfect against itself; blurred, shifted and erased worse; painted loses where it matters, and blank never wins.

    The rule reads the real image with faults of its own, so that false lesion of the perfect copy is not 0: what finds
    nothing has less of it, and is caught by what it misses.
    """
    rows = _faults(copies[0])
    _require_blank_never_wins(rows)
    assert set(order(rows, "ap_dwi").split(" > ")[-2:]) == {"blank", "erased"}
    assert order(rows, "tissue_mae_dwi").startswith("perfect = erased > ")
    for column in ("lesion_bias_dwi", "lesion_mae_adc", "dwi_ratio_error"):
        assert order(rows, column).startswith(("perfect = painted > ", "painted = perfect > ")), column
    perfect, painted = rows.pop("perfect"), rows["painted"]
    assert perfect["brain_mae_dwi"] == perfect["lesion_mae_adc"] == perfect["rim_mae_dwi"] == 0
    assert perfect["lesion_dice"] == perfect["lesion_dice_real"] > 0.5
    assert perfect["cnr_dwi"] == perfect["cnr_dwi_real"] > 1
    assert perfect["cnr_adc"] == perfect["cnr_adc_real"] < 0
    for name, row in rows.items():
        assert row["lesion_dice"] < perfect["lesion_dice"], name
        assert row["psnr_dwi"] < perfect["psnr_dwi"], name
        assert row["ssim_dwi"] < 1, name
    assert rows["erased"]["lesion_dice"] < 0.2
    worst = max(row["lesion_mae_dwi"] for name, row in rows.items() if name != "blank")  # which is darker still
    assert rows["erased"]["lesion_mae_dwi"] == worst
    assert painted["lesion_mae_dwi"] == painted["lesion_mae_adc"] == 0, "lesion MAE alone rewards painting"
    for column in ("false_ml", "false_near_ml", "rim_mae_dwi", "absolute_volume_error_ml"):
        others = [row[column] for name, row in rows.items() if name not in ("painted", "erased")]
        assert painted[column] > max(others), column
    assert painted["lesion_dice"] < rows["blurred"]["lesion_dice"]
    assert rows["shifted"]["brain_mae_dwi"] > rows["blurred"]["brain_mae_dwi"] > 0


def _require_blank_never_wins(rows: dict[str, dict[str, float]]) -> None:
    """In no figure but the false lesion of who finds nothing."""
    blank, perfect = rows["blank"], rows["perfect"]
    for column in judged(rows):
        one, other = goodness(column, blank[column]), goodness(column, perfect[column])
        assert math.isnan(one) or one <= other + 1e-9 or column.startswith("false_"), column
    assert blank["lesion_dice"] == blank["sensitivity"] == blank["detected"] == blank["found_ml"] == 0
    assert blank["precision"] == 0
    assert blank["hd95_mm"] == max(row["hd95_mm"] for row in rows.values()) > 100
    assert blank["cnr_dwi"] == blank["cnr_adc"] == 0
    assert blank["ap_dwi"] == blank["ap_adc"] < 0.05 < perfect["ap_dwi"]
