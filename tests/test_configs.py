"""Every shipped YAML is parsed, and run at a tiny size."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from data import trees
from running import GRID, OVERLAYS, SHIPPED, SMALL, Command, base_of, configs_of, options, shrunk
from scipy.ndimage import binary_erosion

from ctp_ldm.configuration import find_configs, shipped_configs
from ctp_ldm.data import SliceStore
from ctp_ldm.geometry import to_ras
from ctp_ldm.networks import ConfigError
from ctp_ldm.pipeline import CTPLDMPipeline
from ctp_ldm.runs import CheckpointError, read_checkpoint

TASKS = sorted(f"tasks/{path.name}" for path in (shipped_configs() / "tasks").iterdir())
STAGES = {"autoencoder.yaml", "diffusion.yaml", "posttrain.yaml"}
ORACLE = "tasks/ctp-and-truth.yaml"
"""Only of phantoms the truth is known."""
READERS = {"segmenter.yaml", "demo/segmenter.yaml", "threshold.yaml"}


def test_every_yaml_is_known_to_these_tests() -> None:
    assert set(SHIPPED) == {f"{folder}{s}" for folder in ("", "demo/", "published/") for s in STAGES} | READERS | set(
        OVERLAYS
    )
    assert TASKS


@pytest.mark.parametrize("name", SHIPPED)
def test_prints_a_config_that_names_model_data_and_run_folder(
    name: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command("fit", *configs_of(name), "--print_config")
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["class_path"].startswith("ctp_ldm.modules.")
    assert printed["data"]["class_path"] == "ctp_ldm.data.CTPToDiffusionMRI"
    assert printed["trainer"]["default_root_dir"].startswith("runs/")


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "threshold.yaml"])
def test_trains_at_a_tiny_size_from_what_its_own_base_writes(
    name: str, command: Command, trained_config: Callable[[str], Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = base_of(name, SHIPPED)
    start = trained_config(base) if base else "null"
    store = request.getfixturevalue("published_store" if name.startswith("published/") else "store")
    command("fit", *options(name, store, tmp_path), f"--init_from={start}", "--trainer.fast_dev_run=1")


@pytest.mark.parametrize("name", [n for n in SHIPPED if n.startswith("families/")])
def test_a_family_of_the_demos_size_samples_and_is_exported(
    name: str, command: Command, trained_config: Callable[[str], Path], store: Path, tmp_path: Path
) -> None:
    checkpoint = trained_config(name)
    command("test", *options(name, store, tmp_path), f"--ckpt_path={checkpoint}", "--trainer.default_root_dir=run")
    assert Path("run/test/patients.csv").is_file()
    command("convert", checkpoint, "folder", "--to=diffusers")
    assert Path("folder/model_index.json").is_file()


@pytest.mark.parametrize("name", [n for n in SHIPPED if n.startswith("rivals/")])
def test_a_rival_in_pixel_space_samples_and_is_not_exported(
    name: str, command: Command, trained_config: Callable[[str], Path], store: Path, tmp_path: Path
) -> None:
    checkpoint = trained_config(name)
    command("test", *options(name, store, tmp_path), f"--ckpt_path={checkpoint}", "--trainer.default_root_dir=run")
    assert Path("run/test/patients.csv").is_file()
    before = sorted(tmp_path.iterdir())
    for kind in ("diffusers", "compvis", "stages"):
        with pytest.raises(CheckpointError, match=f"{checkpoint}: it works in pixel space .*PixelSpace.* as it is"):
            command("convert", checkpoint, "out", f"--to={kind}")
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(CheckpointError, match=r"mine\.ckpt: it works in pixel space"):
        CTPLDMPipeline.from_checkpoint(read_checkpoint(checkpoint), "mine.ckpt")


@pytest.mark.parametrize("name", ["control.yaml", *(n for n in SHIPPED if n.startswith("arms/"))])
def test_an_arm_is_one_of_another_family_too(
    name: str, command: Command, trained_config: Callable[[str], Path], store: Path, tmp_path: Path
) -> None:
    """Of one whose post-training has no latent loss."""
    family = "families/regression-posttrain.yaml"
    start = trained_config("families/regression.yaml")
    arguments = [*configs_of(family), f"--config={name}", *shrunk(family, tmp_path), *GRID, *SMALL]
    command("fit", *arguments, f"--data.store={store}", f"--init_from={start}", "--trainer.fast_dev_run=1")


def test_the_clinics_rule_is_tested_without_training(command: Command, patients: Path) -> None:
    tree = patients / "isles24"
    command("prepare", tree, "store", "--config=threshold.yaml", *GRID, "--workers=1")
    command("test", "--config=threshold.yaml", *GRID, *SMALL, "--data.store=store")
    table = pd.read_csv("runs/threshold/test/patients.csv")
    assert table["dice"].between(0, 1).all()
    assert table["false_penumbra_ml"].notna().all(), "there is a map of Tmax"
    with pytest.raises(ConfigError, match="nothing to train"):
        command("fit", "--config=threshold.yaml", *GRID, *SMALL, "--data.store=store")


def test_a_segmenter_reads_what_another_model_synthesises(
    command: Command, trained_config: Callable[[str], Path], store: Path, tmp_path: Path
) -> None:
    reader, model = trained_config("demo/segmenter.yaml"), trained_config("demo/diffusion.yaml")
    arguments = [*options("demo/diffusion.yaml", store, tmp_path), "--trainer.default_root_dir=run"]
    command("test", *arguments, f"--ckpt_path={model}", f"--segmenter={reader}")
    table = pd.read_csv("run/test/patients.csv", index_col="case")
    assert {"dice", "dice_real", "false_ml", "brain_mae_adc", "ms_ssim_dwi"} <= set(table)
    command("test", *options("demo/segmenter.yaml", store, tmp_path), f"--ckpt_path={reader}",
            "--trainer.default_root_dir=own")  # fmt: skip
    own = pd.read_csv("own/test/patients.csv", index_col="case")
    pd.testing.assert_series_equal(own["dice"], table["dice_real"], check_names=False)
    with pytest.raises(CheckpointError, match="is of stage 'diffusion'; the key segmenter expects 'segmenter'"):
        command("test", *arguments, f"--ckpt_path={model}", f"--segmenter={model}")
    direct = trained_config("demo/direct.yaml")
    with pytest.raises(CheckpointError, match="reads the source, not synthetic images"):
        command("test", *arguments, f"--ckpt_path={model}", f"--segmenter={direct}")


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five patients with all their files, as ISLES'24 and, their MRI alone, as ISLES'22."""
    root = tmp_path_factory.mktemp("patients")
    for seed in range(1, 6):
        trees.write_case(trees.isles24(root / "isles24", seed), trees.patient(seed))
        trees.write_case(trees.isles22(root / "isles22", seed), trees.patient(seed))
    return root


@pytest.mark.parametrize("task", TASKS)
def test_a_task_goes_from_files_to_predictions(
    task: str, command: Command, patients: Path, tree: Path, tmp_path: Path
) -> None:
    data = yaml.safe_load((shipped_configs() / task).read_text())["data"]["init_args"]
    targets = list(data.get("targets", ("dwi", "adc")))
    root = tree if task == ORACLE else patients / ("isles22" if "layout" in data else "isles24")
    command("prepare", root, "store", "--config=diffusion.yaml", f"--config={task}", *GRID, "--workers=1")
    base = "null"
    for stage in ("autoencoder", "diffusion"):
        arguments = [
            f"--config=demo/{stage}.yaml",
            *shrunk(f"demo/{stage}.yaml", tmp_path),
            f"--config={task}",
            *GRID,
            *SMALL,
            "--data.store=store",
            f"--init_from={base}",
            f"--trainer.default_root_dir=runs/{stage}",
            "--trainer.max_steps=1",
            "--trainer.val_check_interval=1",
        ]
        command("fit", *arguments)
        base = f"runs/{stage}/checkpoints/best.ckpt"
    command("predict", *arguments, f"--data.predict_from={root}")
    written = {path.name.split("_")[-1] for path in Path("runs/diffusion/predictions").rglob("*.nii.gz")}
    assert written == {f"{target}.nii.gz" for target in targets}


def test_the_oracles_store_has_the_truth_beside_what_every_store_has(command: Command, tree: Path, store: Path) -> None:
    command("prepare", tree, "oracle", "--config=demo/diffusion.yaml", f"--config={ORACLE}", *GRID, "--workers=1")
    usual, oracle = SliceStore(store), SliceStore(Path("oracle"))
    series, truth = oracle.spec.source[:16], oracle.spec.source[16:]
    assert series == usual.spec.source
    assert [channel.name for channel in truth] == ["true_cbf", "true_cbv", "true_delay"]
    assert list(oracle.records) == list(usual.records)
    for case, record in oracle.records.items():
        assert record.geometry == usual.records[case].geometry
        source = oracle.read(case, "source")
        np.testing.assert_array_equal(source[:, :16], usual.read(case, "source"))
        for kind in ("target", "brain", "lesion"):
            np.testing.assert_array_equal(oracle.read(case, kind), usual.read(case, kind))
        brain = oracle.read(case, "brain").astype(bool)
        for i, channel in enumerate(truth, start=16):
            kind = channel.name.removeprefix("true_")
            image = nib.Nifti1Image.from_filename(tree / "truth" / case / f"{case}_space-ncct_{kind}.nii.gz")
            values = record.geometry.to_grid(to_ras(image.get_fdata(dtype=np.float32), image.affine)[0])
            found = channel.scaling.decode(source[:, i].astype(np.float32))
            half = channel.scaling.span * 2**-12
            assert (np.abs(found[~brain]) <= half).all()
            # At the rim only voxels of the brain count; the truth has values beyond it.
            inner = binary_erosion(brain, np.ones((1, 3, 3)))
            np.testing.assert_allclose(found[inner], values[inner], atol=half)


def test_a_config_in_the_working_directory_goes_before_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = shipped_configs()
    assert find_configs(["fit", "--config", "posttrain.yaml"])[2] == str(shipped / "posttrain.yaml")
    (tmp_path / "posttrain.yaml").touch()
    assert find_configs(["fit", "--config", "posttrain.yaml"])[2] == "posttrain.yaml"
    assert find_configs(["fit", "--config=demo/control.yaml"])[1] == f"--config={shipped / 'demo/control.yaml'}"


def test_an_unknown_config_is_answered_with_those_that_are_shipped() -> None:
    with pytest.raises(FileNotFoundError, match=r"postrain\.yaml.*posttrain\.yaml"):
        find_configs(["fit", "--config", "postrain.yaml"])
