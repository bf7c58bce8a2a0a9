"""Every shipped YAML is parsed, and run at a tiny size."""

from pathlib import Path

import pytest
import yaml
from running import OVERLAYS, Command, configs_of, options, stage_of

from ctp_ldm.configuration import find_configs, shipped_configs

CONFIGS = sorted(str(path.relative_to(shipped_configs())) for path in shipped_configs().rglob("*.yaml"))
STAGES = {"autoencoder.yaml", "diffusion.yaml", "posttrain.yaml"}


def test_every_yaml_is_known_to_these_tests() -> None:
    assert set(CONFIGS) == STAGES | {f"demo/{s}" for s in STAGES} | set(OVERLAYS)


@pytest.mark.parametrize("name", CONFIGS)
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


@pytest.mark.parametrize("name", CONFIGS)
def test_trains_at_a_tiny_size(
    name: str, command: Command, store: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = {"autoencoder": None, "diffusion": "autoencoder", "posttrain": "diffusion"}[stage_of(name)]
    start = "null"
    if base is not None:
        start = request.getfixturevalue("bases" if name.startswith("demo/") else "full_bases")[base]
    command("fit", *options(name, store, tmp_path), f"--init_from={start}", "--trainer.fast_dev_run=1")


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
