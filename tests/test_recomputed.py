"""The tables of one evaluation, computed again from what it wrote, by code that shares nothing with it.

From `test/volumes` come the synthetic images and the reader's masks, from the store the real images, brains and
references. Synthetic images are kept in half precision: what hangs on their values agrees to that.
"""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from running import options
from scipy.ndimage import distance_transform_edt
from scipy.stats import ttest_1samp
from sklearn.metrics import average_precision_score

from ctp_ldm.cli import run

HALF = 2.0**-11
"""The most that half precision rounds, as a share of the value."""
PATIENTS = {f"sub-stroke{i:04d}" for i in (1, 3, 6, 7, 8)}  # of 6, 22, 2 and 32 mL, and none
SPLIT = {"train": ["sub-stroke0004", "sub-stroke0005"], "val": ["sub-stroke0002"], "test": sorted(PATIENTS)}
ARMS = {"early": 20, "late": 60}
Columns = dict[str, float]


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a reader and two tested autoencoders, one of which was trained longer; compared and reported."""
    folder = tmp_path_factory.mktemp("recomputed")
    split = folder / "split.json"
    split.write_text(json.dumps(SPLIT))

    def arguments(stage: str, name: str) -> list[str]:
        small = options(f"demo/{stage}.yaml", store, folder)
        parts = ["--data.split=ctp_ldm.data.ListedSplit", f"--data.split.path={split}"]
        return [*small, *parts, f"--trainer.default_root_dir={folder / name}"]

    for stage, name, steps in (("segmenter", "reader", 80), *(("autoencoder", *arm) for arm in ARMS.items())):
        length = [f"--trainer.max_steps={steps}", "--trainer.val_check_interval=20"]
        run(["fit", *arguments(stage, name), *length, "--init_from=null", "--model.optimizer.init_args.lr=1e-2"])
    reader = folder / "reader" / "checkpoints" / "last.ckpt"
    for name in ARMS:
        run(["test", *arguments("autoencoder", name), f"--segmenter={reader}"])
    cutoff = one_that_finds_some(pd.read_csv(folder / name / "test" / "curves.csv") for name in ARMS)
    for name in ARMS:
        run(["test", *arguments("autoencoder", name), f"--segmenter={reader}", f"--cutoff={cutoff}"])
    arms = [str(folder / name) for name in ARMS]
    run(["compare", *arms, f"--out={folder / 'comparison'}"])
    run(["report", *arms, f"--out={folder / 'report'}", "--cases=0"])
    return folder


def one_that_finds_some(curves: Iterable[pd.DataFrame]) -> float:
    """The highest cut-off at which a tenth of the lesions is found, and something else, on images of every arm."""
    totals = [curve.groupby("cutoff").sum(numeric_only=True) for curve in curves]
    useful = [(t.shared_ml >= 0.1 * t.reference_ml) & (t.found_ml > t.shared_ml) for t in totals]
    return float(max(cutoff for cutoff in totals[0].index if all(rows[cutoff] for rows in useful)))


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "test" / "patients.csv", index_col="case")


def read(folder: Path, store: Path, case: str) -> dict[str, Any]:
    """Arrays of a patient: (Z, H, W) masks, and channel → (Z, H, W) synthetic and real images in physical units."""
    kept = np.load(folder / "test" / "volumes" / f"{case}.npz")
    target, brain, lesion = (np.load(store / "cases" / case / f"{kind}.npy") for kind in ("target", "brain", "lesion"))
    channels = json.loads((store / "manifest.json").read_text())["spec"]["target"]
    images = {}
    for i, channel in enumerate(channels):
        low, high = channel["scaling"]["low"], channel["scaling"]["high"]
        real = (low + (target[:, i].astype(float) + 1) / 2 * (high - low)) * brain
        images[channel["name"]] = kept["synthetic"][:, i].astype(float), real
    return {"mm": kept["spacing"], "brain": brain > 0, "found": kept["found"], "lesion": (lesion > 0) & (brain > 0),
            "images": images, "kept": kept}  # fmt: skip


def lesion_columns(mm: np.ndarray, brain: np.ndarray, found: np.ndarray, lesion: np.ndarray, **_: Any) -> Columns:
    ml = mm[0] * mm[1] * mm[2] / 1000
    true = np.count_nonzero(lesion)
    positive, hit = np.count_nonzero(found), np.count_nonzero(lesion[found])
    columns = {"reference_ml": true * ml, "lesion_ml": true * ml, "found_ml": positive * ml, "shared_ml": hit * ml}
    columns |= {"false_ml": (positive - hit) * ml, "volume_error_ml": (positive - true) * ml}
    columns["absolute_volume_error_ml"] = abs(positive - true) * ml
    for limit in (25, 70):
        columns[f"crosses_{limit}"] = float(min(positive, true) * ml < limit <= max(positive, true) * ml)
    if not true:
        return columns | {"false_free_ml": positive * ml, "any_false_free": float(positive > 0)}
    away = distance_transform_edt(~lesion, sampling=mm)[found & ~lesion]
    columns |= {"false_near_ml": np.sum(away <= 10) * ml, "false_far_ml": np.sum(away > 10) * ml}
    columns |= {"lesion_dice": 2 * hit / (positive + true), "sensitivity": hit / true}
    columns |= {"precision": hit / positive if positive else 0.0, "detected": float(hit >= 0.2 * true)}
    return columns | ({"detected_10ml": columns["detected"]} if true * ml >= 10 else {})


def image_columns(brain: np.ndarray, lesion: np.ndarray, images: Any, **_: Any) -> dict[str, tuple[float, float]]:
    """Column → its value, and by how much half precision may move it."""
    columns: dict[str, tuple[float, float]] = {}
    tissue = brain & (images["adc"][1] < 1500)
    in_tissue, middle = lesion & tissue, round(2 * float(np.argwhere(brain)[:, 1].mean()))
    site = np.zeros_like(brain)
    for z, h, w in np.argwhere(in_tissue):
        if 0 <= middle - h < brain.shape[1]:
            site[z, middle - h, w] = True
    site &= tissue & ~in_tissue
    for name, (synthetic, real) in images.items():
        step = HALF * abs(synthetic).max()
        places = {"brain_mae": brain, "tissue_mae": tissue & ~lesion, "lesion_mae": lesion}
        columns |= {f"{kind}_{name}": (abs(synthetic - real)[place].mean() if place.any() else math.nan, step)
                    for kind, place in places.items()}  # fmt: skip
        if not lesion.any():
            continue
        columns[f"lesion_bias_{name}"] = (synthetic - real)[lesion].mean(), step
        sign = {"dwi": 1, "adc": -1}[name]
        for end, image, move in (("", synthetic, step), ("_real", real, 0.0)):
            columns[f"ap_{name}{end}"] = average_precision(sign * image[tissue], in_tissue[tissue], HALF if move else 0)
            if site.any() and np.ptp(image[site]) > 0:
                noise = image[site].std()
                contrast = (image[in_tissue].mean() - image[site].mean()) / noise
                columns[f"cnr_{name}{end}"] = contrast, (2 + abs(contrast)) * move / noise + 1e-3
    return columns


def average_precision(scores: np.ndarray, lesion: np.ndarray, rounding: float) -> tuple[float, float]:
    """And by how much it moves at most where the lesion's scores are rounded one way, all others the other way.

    Ties count as one threshold; only rounding makes them, so that they are broken where it is undone.
    """
    value, *ends = (
        float(average_precision_score(lesion, scores + abs(scores) * (way * np.where(lesion, 1, -1) + unlike)))
        for way, unlike in ((0, 0), *((way * rounding, 1e-9 * np.arange(len(scores))) for way in (1, -1)))
    )
    return value, max(abs(end - value) for end in ends) + 1e-5


def plain_bootstrap(values: np.ndarray, draws: int = 4000) -> tuple[float, float]:
    random = np.random.default_rng(7)
    means = []
    for _ in range(draws):
        means.append(np.mean([values[random.integers(len(values))] for _ in values]))
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


@pytest.mark.parametrize("arm", ARMS)
def test_volumes_are_those_of_the_store(runs: Path, store: Path, arm: str) -> None:
    for case in PATIENTS:
        patient = read(runs / arm, store, case)
        assert np.array_equal(patient["kept"]["brain"], patient["brain"])
        assert np.array_equal(patient["kept"]["lesion"], patient["lesion"])
        for i, (synthetic, real) in enumerate(patient["images"].values()):
            np.testing.assert_allclose(patient["kept"]["real"][:, i], real, rtol=2 * HALF, atol=1e-3)
            assert not synthetic[~patient["brain"]].any()
        assert not patient["found"][~patient["brain"]].any()


@pytest.mark.parametrize("arm", ARMS)
def test_lesion_columns_come_out_the_same(runs: Path, store: Path, arm: str) -> None:
    table = table_of(runs / arm)
    assert set(table.index) == PATIENTS
    own = pd.DataFrame({case: lesion_columns(**read(runs / arm, store, case)) for case in table.index}).T
    assert own["shared_ml"].max() > 0, "some lesion is found"
    assert own["false_near_ml"].max() > 0
    pd.testing.assert_frame_equal(table[list(own)].astype(float), own, rtol=2e-5, check_names=False)


@pytest.mark.parametrize("arm", ARMS)
def test_image_columns_come_out_the_same(runs: Path, store: Path, arm: str) -> None:
    table = table_of(runs / arm)
    compared = 0
    for case, row in table.iterrows():
        for column, (value, within) in image_columns(**read(runs / arm, store, str(case))).items():
            assert row[column] == pytest.approx(value, abs=within + 1e-5 * abs(value), nan_ok=True), (case, column)
            compared += 1
    assert compared >= 60


@pytest.mark.parametrize("arm", ARMS)
def test_the_summary_is_the_mean_over_patients_with_its_bootstrap_interval(runs: Path, arm: str) -> None:
    table = table_of(runs / arm)
    summary = json.loads((runs / arm / "test" / "summary.json").read_text())["metrics"]
    assert set(summary) == set(table.columns)
    for column in ("false_ml", "sensitivity", "lesion_dice", "precision", "lesion_mae_adc", "brain_mae_dwi", "ap_dwi"):
        values = table[column].dropna().to_numpy(float)
        low, high = plain_bootstrap(values)
        found, slack = summary[column], 0.05 * (high - low) + 1e-5 * abs(high)
        assert found["patients"] == len(values)
        assert found["mean"] == pytest.approx(values.mean(), rel=1e-4)
        assert (found["low"], found["high"]) == pytest.approx((low, high), abs=slack), column


def test_differences_are_of_pairs_with_their_t_interval(runs: Path) -> None:
    written = pd.read_csv(runs / "comparison" / "comparison.csv").set_index(["metric", "run"])
    early, late = (table_of(runs / arm) for arm in ARMS)
    for column in ("false_ml", "sensitivity", "lesion_dice", "precision", "lesion_mae_adc", "brain_mae_dwi", "ap_dwi"):
        pairs = np.array([late.loc[c, column] - early.loc[c, column] for c in early.index])
        pairs = pairs[~np.isnan(pairs)]
        interval, row = ttest_1samp(pairs, 0.0).confidence_interval(0.95), written.loc[(column, "late")]
        assert row["difference"] == pytest.approx(pairs.mean(), rel=1e-3, abs=1e-5), column
        ends = (row["difference_low"], row["difference_high"])
        assert ends == pytest.approx((interval.low, interval.high), rel=1e-3, abs=1e-5), column
        assert (row["pairs"], row["left_out"]) == (len(pairs), 0)


def test_strata_are_the_patients_of_these_volumes(runs: Path) -> None:
    figure = (runs / "report" / "figures" / "strata-1.svg").read_text()
    told = {(arm, name): (float(mean), int(n)) for arm, name, mean, n in re.findall(
        r"(\w+), ([^:<]+): ([\d.]+)[^<]*?n = (\d+)", figure.replace("&lt;", "below"))}  # fmt: skip
    for arm in ARMS:
        table = table_of(runs / arm)
        for name, low, high in (("1–10 mL", 1, 10), ("10–70 mL", 10, 70)):
            dice = [row["lesion_dice"] for _, row in table.iterrows() if low <= row["reference_ml"] < high]
            assert told[arm, name] == (pytest.approx(np.mean(dice), abs=6e-4), 2)
        assert not any(name.endswith("1 mL") or name.startswith("≥") for _, name in told), "there are no such lesions"
