"""The command from stage to stage, as a user calls it, on eight tiny simulated patients."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from running import GRID, SMALL, Command, options, shrunk

from ctp_ldm.cli import main
from ctp_ldm.spec import SpecMismatch


def posttrain(store: Path, folder: Path, base: Path, run: str = "posttrain", terms: bool = True) -> list[str]:
    """Arguments of post-training, or of its control, for four steps."""
    overlay = [] if terms else ["--config=demo/control.yaml"]
    return [
        "--config=demo/posttrain.yaml",
        *overlay,
        *shrunk("demo/posttrain.yaml", folder),
        *GRID,
        *SMALL,
        f"--data.store={store}",
        f"--init_from={base}",
        "--trainer.max_steps=4",
        "--trainer.val_check_interval=2",
        f"--trainer.default_root_dir=runs/{run}",
    ]


@pytest.fixture
def trained(command: Command, store: Path, tmp_path: Path, bases: dict[str, Path]) -> list[str]:
    """A post-trained model in runs/posttrain; returns its arguments."""
    arguments = posttrain(store, tmp_path, bases["diffusion"])
    command("fit", *arguments)
    return arguments


def test_a_run_folder_holds_what_is_needed_to_repeat_and_judge_it(
    command: Command, store: Path, tmp_path: Path, bases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command("fit", *posttrain(store, tmp_path, bases["diffusion"]))
    root = Path("runs/posttrain")
    found = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    expected = {"fit.yaml", "fit.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "pictures/val-0000004.png"}
    assert expected <= found
    assert any(name.startswith("events.out.tfevents") for name in found)
    assert "run folder: runs/posttrain" in capsys.readouterr().out
    assert json.loads((root / "fit.json").read_text())["torch"] == torch.__version__


def test_the_saved_config_repeats_the_run(trained: list[str], command: Command) -> None:
    command("fit", "--config=runs/posttrain/fit.yaml", "--trainer.default_root_dir=runs/again")
    weights = [torch.load(f"runs/{r}/checkpoints/last.ckpt", weights_only=True) for r in ("posttrain", "again")]
    assert weights[0]["global_step"] == weights[1]["global_step"] == 4
    for name, value in weights[0]["state_dict"].items():
        assert torch.equal(value, weights[1]["state_dict"][name]), name


def test_fit_goes_on_where_the_run_folder_is(trained: list[str], command: Command) -> None:
    command("fit", *trained, "--trainer.max_steps=6")
    checkpoint = torch.load("runs/posttrain/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6


def test_a_refused_run_leaves_the_record_of_the_one_in_its_folder(trained: list[str], command: Command) -> None:
    before = {name: Path(f"runs/posttrain/{name}").read_bytes() for name in ("fit.yaml", "fit.json")}
    with pytest.raises(SpecMismatch, match="source channels"):
        command("fit", *trained, "--data.context=1", "--trainer.max_steps=6")
    assert {name: Path(f"runs/posttrain/{name}").read_bytes() for name in before} == before


@pytest.mark.parametrize("stage", ["autoencoder", "diffusion", "posttrain"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    stage: str, command: Command, store: Path, tmp_path: Path, bases: dict[str, Path]
) -> None:
    """Interrupted in the middle of an epoch: data, augmentation and noise go on where they were, to the last bit."""
    base = {"autoencoder": "null", "diffusion": bases["autoencoder"], "posttrain": bases["diffusion"]}[stage]
    arguments = [
        *options(f"demo/{stage}.yaml", store, tmp_path),
        f"--init_from={base}",
        "--trainer.val_check_interval=4",
        "--data.lesion_oversampling=1",  # short epochs, more than one of them
    ]
    command("fit", *arguments, "--trainer.default_root_dir=runs/straight", "--trainer.max_steps=12")
    for steps in (4, 8, 12):
        command("fit", *arguments, "--trainer.default_root_dir=runs/resumed", f"--trainer.max_steps={steps}")
    straight, resumed = (
        torch.load(f"runs/{run}/checkpoints/last.ckpt", weights_only=True) for run in ("straight", "resumed")
    )
    assert straight["global_step"] == resumed["global_step"] == 12
    assert straight["epoch"] == resumed["epoch"] > 0
    for name, value in straight["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name
    for state, again in zip(
        straight["optimizer_states"][0]["state"].values(), resumed["optimizer_states"][0]["state"].values(), strict=True
    ):
        assert torch.equal(state["exp_avg"], again["exp_avg"])


def test_tests_and_comparison_are_on_the_same_patients(
    trained: list[str], command: Command, store: Path, tmp_path: Path, bases: dict[str, Path]
) -> None:
    control = posttrain(store, tmp_path, bases["diffusion"], "control", terms=False)
    command("fit", *control)
    split = ["--data.split=ctp_ldm.data.RandomSplit", "--data.split.test=0.4", "--data.split.val=0.2"]
    command("test", *trained, *split)
    command("test", *control, *split)
    command("compare", "runs/control", "runs/posttrain", "--out=comparison")
    table = pd.read_csv("runs/posttrain/test/patients.csv")
    assert len(table) == 3
    assert {"brain_mae_adc", "lesion_mae_dwi", "psnr_dwi", "ssim_adc", "lesion_ml"} <= set(table.columns)
    summary = json.loads(Path("runs/posttrain/test/summary.json").read_text())
    assert summary["patients"] == 3
    assert summary["metrics"]["brain_mae_adc"]["low"] <= table["brain_mae_adc"].mean()
    assert Path("comparison/comparison.png").stat().st_size > 10_000
    assert "posttrain − control" in Path("comparison/comparison.md").read_text()


def test_predicts_patients_without_mri_on_the_grid_of_their_ct(
    trained: list[str], command: Command, tree: Path, tmp_path: Path
) -> None:
    ct_only = tmp_path / "ct_only"
    shutil.copytree(tree, ct_only, ignore=shutil.ignore_patterns("ses-02"))
    command("predict", *trained, f"--data.predict_from={ct_only}")
    folders = sorted(Path("runs/posttrain/predictions").iterdir())
    assert len(folders) == 8
    for folder in folders:
        source = nib.load(ct_only / f"derivatives/{folder.name}/ses-01/{folder.name}_ses-01_space-ncct_ctp.nii.gz")
        for target, unit, ceiling in (("dwi", "relative DWI", 4.01), ("adc", "10⁻⁶ mm²/s", 3001)):
            image = nib.load(folder / f"{folder.name}_desc-synthetic_{target}.nii.gz")
            assert image.shape == source.shape[:3]
            assert np.allclose(image.affine, source.affine, atol=1e-4)
            values = image.get_fdata()
            assert np.isfinite(values).all()
            assert values.any()
            assert np.abs(values).max() < 3 * ceiling
            sidecar = json.loads((folder / f"{folder.name}_desc-synthetic_{target}.json").read_text())
            assert sidecar["Units"] == unit
            assert sidecar["Description"] == "synthetic, for research use"
            assert len(sidecar["CheckpointSHA256"]) == 64


def test_the_same_patient_is_predicted_alike_in_any_batch(trained: list[str], command: Command) -> None:
    images = []
    for size in (1, 4):
        command("predict", *trained, f"--data.batch_size={size}")
        images += [nib.load(p).get_fdata() for p in sorted(Path("runs/posttrain/predictions").rglob("*adc.nii.gz"))]
    assert len(images) == 2
    assert np.allclose(images[0], images[1], atol=0.5)


def test_neighbouring_slices_are_channels_from_training_to_prediction(
    command: Command, store: Path, tree: Path, tmp_path: Path
) -> None:
    base = "null"
    for stage in ("autoencoder", "diffusion"):
        arguments = [
            *options(f"demo/{stage}.yaml", store, tmp_path),
            "--data.context=1",
            "--data.lesion_oversampling=1.5",
            f"--init_from={base}",
            f"--trainer.default_root_dir=runs/{stage}",
            "--trainer.max_steps=2",
            "--trainer.val_check_interval=2",
        ]
        command("fit", *arguments)
        base = f"runs/{stage}/checkpoints/best.ckpt"
    first = {k: v for k, v in _weights(base).items() if k.endswith("condition.blocks.0.weight")}
    assert {v.shape[1] for v in first.values()} == {3 * 16}
    command("predict", *arguments, f"--data.predict_from={tree}")
    assert len(list(Path("runs/diffusion/predictions").rglob("*adc.nii.gz"))) == 8


def _weights(checkpoint: str) -> dict[str, torch.Tensor]:
    return dict(torch.load(checkpoint, weights_only=True)["state_dict"])


def test_a_task_of_ones_own_needs_nothing_but_a_subclass_and_a_yaml(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t1_to_flair.py").write_text(
        "from ctp_ldm.data import RobustRange, TranslationDataModule\n"
        "class T1ToFLAIR(TranslationDataModule):\n"
        "    sources = {'t1': RobustRange()}\n"
        "    targets = {'flair': RobustRange()}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    _write_t1_and_flair(tmp_path / "mri")
    ours = ["--data=t1_to_flair.T1ToFLAIR", "--data.layout=ctp_ldm.data.CaseFolders"]
    command("prepare", "mri", "mri-store", *ours, *GRID)
    for stage, base in (("autoencoder", "null"), ("diffusion", "autoencoder"), ("posttrain", "diffusion")):
        start = base if base == "null" else f"runs/flair/{base}/checkpoints/best.ckpt"
        arguments = [
            *options(f"demo/{stage}.yaml", Path("mri-store"), tmp_path),
            *ours,
            f"--init_from={start}",
            f"--trainer.default_root_dir=runs/flair/{stage}",
            "--trainer.max_steps=2",
            "--trainer.val_check_interval=2",
        ]
        if stage == "posttrain":
            lesion = "[{class_path: ctp_ldm.losses.RegionError, init_args: {region: lesion, weight: 0.1}}]"
            arguments.append(f"--model.terms={lesion}")
        command("fit", *arguments)
    command("predict", *arguments, "--data.predict_from=mri")
    written = sorted(p.name for p in Path("runs/flair/posttrain/predictions").rglob("*.nii.gz"))
    assert written == [f"p{i}_desc-synthetic_flair.nii.gz" for i in range(6)]


def _write_t1_and_flair(root: Path) -> None:
    rng = np.random.default_rng(0)
    x, y, z = np.ogrid[-1:1:32j, -1:1:40j, -1:1:4j]
    head = (x**2 + y**2 + 0.2 * z**2 < 0.6).astype(float)
    affine = np.diag([6.0, 6.0, 8.0, 1.0])
    for i in range(6):
        folder = root / f"p{i}"
        folder.mkdir(parents=True)
        lesion = ((x - 0.2) ** 2 + (y - 0.1 * i) ** 2 + z**2 < 0.05) * head
        t1 = head * (100 + 10 * rng.standard_normal(head.shape)) - 20 * lesion
        flair = head * (60 + 5 * rng.standard_normal(head.shape)) + 40 * lesion
        for name, values in (("t1", t1), ("flair", flair), ("lesion", lesion)):
            nib.save(nib.Nifti1Image(values.astype(np.float32), affine), folder / f"{name}.nii.gz")


def failure(*arguments: object) -> str:
    """What the command says when it refuses."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert stop.value.code not in (0, None)
    return str(stop.value.code)


def test_a_stage_says_what_to_run_first(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = failure("fit", *options("demo/diffusion.yaml", store, tmp_path))
    assert "runs/demo/autoencoder/checkpoints/best.ckpt is missing" in message
    assert "run the stage that writes it first" in message
    assert "run fit with this config first" in failure("test", *options("demo/diffusion.yaml", store, tmp_path))


def test_post_training_refuses_to_start_without_a_base(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = failure("fit", *options("demo/posttrain.yaml", store, tmp_path), "--init_from=null")
    assert "has no trained networks to start from" in message


def test_a_checkpoint_of_another_stage_is_refused(
    store: Path, tmp_path: Path, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = bases["autoencoder"]
    message = failure("fit", *options("demo/posttrain.yaml", store, tmp_path), f"--init_from={base}")
    assert f"{base} is of stage 'autoencoder'" in message
    message = failure("test", *options("demo/posttrain.yaml", store, tmp_path), f"--ckpt_path={base}")
    assert f"{base} is of stage 'autoencoder'" in message


def test_a_store_of_another_grid_is_refused_with_both_values(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = failure("fit", *options("demo/autoencoder.yaml", store, tmp_path), "--data.spacing=5")
    assert "spacing: 6.0 ≠ 5.0" in message


def test_a_misspelt_key_is_named(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = options("demo/autoencoder.yaml", store, tmp_path)
    assert "regulariser_wieght" in failure("fit", *small, "--model.regulariser_wieght=1")
    message = failure("fit", *small, "--model.autoencoder.latent_chanels=3")
    assert "did you mean latent_channels" in message


def test_a_broken_case_is_named_or_left_out_on_request(
    tree: Path, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tree, tmp_path / "tree")
    broken = next((tmp_path / "tree" / "derivatives" / "sub-stroke0002").rglob("*_adc.nii.gz"))
    broken.write_bytes(broken.read_bytes()[:1000])
    next((tmp_path / "tree" / "derivatives" / "sub-stroke0005").rglob("*_dwi.nii.gz")).unlink()
    message = failure("check", "tree", *GRID, "--workers=1")
    assert "2 fault(s)" in message
    assert str(broken.relative_to(tmp_path)) in message
    assert "sub-stroke0005: dwi is missing" in message
    assert "2 fault(s)" in failure("prepare", "tree", "store", *GRID, "--workers=1")
    assert not Path("store/manifest.json").exists()
    command("prepare", "tree", "store", *GRID, "--workers=1", "--skip-invalid")
    shown = capsys.readouterr().out
    assert "left out: sub-stroke0002" in shown
    assert "6 cases" in shown


def test_an_unknown_command_is_answered_with_the_known_ones() -> None:
    assert "expected one of fit, validate, test, predict, phantom" in failure("fti")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    for name in (
        "fit",
        "validate",
        "test",
        "predict",
        "phantom",
        "check",
        "prepare",
        "convert",
        "compare",
        "report",
        "demo",
    ):
        assert f"\n  {name} " in shown
