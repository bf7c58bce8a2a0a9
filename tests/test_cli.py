"""How the project's own commands take their words."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ctp_ldm.cli import run
from ctp_ldm.commands import _options
from ctp_ldm.configuration import data_of_configs, shipped_configs


def command(source: str, skip_invalid: bool = False, frame_interval: float = 1.0) -> None:
    """Stands for a command."""


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ([], []),
        (["tree"], ["tree"]),
        (["tree", "--skip-invalid"], ["tree", "--skip_invalid=true"]),
        (["--skip-invalid", "tree"], ["--skip_invalid=true", "tree"]),
        (["--skip_invalid", "false"], ["--skip_invalid", "false"]),
        (["--skip-invalid=false"], ["--skip_invalid=false"]),
        (["--frame-interval", "1.5", "a-b"], ["--frame_interval", "1.5", "a-b"]),
        (["--frame-interval=-1", "--help"], ["--frame_interval=-1", "--help"]),
    ],
)
def test_dashes_and_switches(given: list[str], understood: list[str]) -> None:
    assert _options(command, given) == understood


# --------------------------------------------------------------------------------------------- data section of configs


A: dict[str, Any] = {"class_path": "A", "init_args": {"spacing": 1.0, "store": "s"}}
A_THEN_B: dict[str, Any] = {"class_path": "A", "init_args": {"spacing": 2.0, "store": "s", "context": 1}}


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a.yaml, b.yaml over it, and one that says nothing of data."""
    monkeypatch.chdir(tmp_path)
    for name, content in (
        ("a.yaml", {"data": A, "model": {"class_path": "M"}, "trainer": {"max_steps": 1}}),
        ("b.yaml", {"data": {"init_args": {"spacing": 2.0, "context": 1}}}),
        ("none.yaml", {"trainer": {"max_steps": 2}}),
    ):
        (tmp_path / name).write_text(yaml.safe_dump(content))


@pytest.mark.usefixtures("configs")
@pytest.mark.parametrize(
    ("given", "data", "kept"),
    [
        (["tree", "--config", "a.yaml"], A, ["tree"]),
        (["-c", "a.yaml", "tree"], A, ["tree"]),
        (["--config=a.yaml", "tree", "--config=none.yaml"], A, ["tree"]),
        (["--config=a.yaml", "tree", "-c=b.yaml"], A_THEN_B, ["tree"]),
        (["tree", "--config=none.yaml"], {"init_args": {}}, ["tree"]),
        (
            ["--data.spacing=3", "tree", "--config", "a.yaml", "--data.store", "t"],
            A,
            ["--data.spacing=3", "tree", "--data.store", "t"],
        ),
    ],
)
def test_a_config_gives_its_data_section_and_what_else_is_said_goes_over_it(
    given: list[str], data: dict[str, Any], kept: list[str]
) -> None:
    first, *rest = data_of_configs(given)
    assert first.startswith("--data=")
    assert json.loads(first.removeprefix("--data=")) == data
    assert rest == kept


@pytest.mark.parametrize("given", [["tree", "--data.spacing", "2"], [], ["tree"]])
def test_without_a_config_nothing_changes(given: list[str]) -> None:
    assert data_of_configs(given) == given


@pytest.mark.parametrize("name", ["posttrain.yaml", "demo/autoencoder.yaml"])
def test_shipped_configs_are_known_by_name(name: str) -> None:
    (option,) = data_of_configs(["--config", name])
    assert json.loads(option.removeprefix("--data=")) == yaml.safe_load((shipped_configs() / name).read_text())["data"]


@pytest.mark.parametrize("content", ["[1, 2]", "data: 7", "{", "just words"])
def test_what_is_no_config_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"c\.yaml is not a config: expected a YAML mapping with a section data"):
        data_of_configs(["--config", str(path)])


def test_config_without_a_name_is_answered_in_words() -> None:
    with pytest.raises(ValueError, match="is not a config"):
        data_of_configs(["tree", "--config"])


# -------------------------------------------------------------------------------- what the parser refuses


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "--model.terms=[{class_path: ctp_ldm.losses.RegionError, init_args: {region: edge, weight: 1}}]",
            r'"terms".*RegionError.*"region".*\'lesion\'.*Got value: edge$',
        ),
        ("--model.noise=none", r'"noise".*\'random\', \'fixed\', \'zero\'.*Got value: none$'),
        ("--model.stepz=3", r"LesionAwarePostTraining.*Option 'stepz' is not accepted$"),
        ("--trainer.max_stepz=3", r"unrecognized arguments: --trainer\.max_stepz=3$"),
    ],
)
def test_a_wrong_value_is_answered_with_its_key_and_what_is_expected_alone(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}") as refused:
        run(["fit", "--config=posttrain.yaml", word])
    assert "usage:" not in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 6


class Trap:
    """Leaves a file where it was instantiated."""

    def __init__(self, path: str) -> None:
        Path(path).touch()


def test_a_config_cannot_have_a_class_of_its_choice_instantiated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    """Where it may hold anything: a network's arguments."""
    monkeypatch.chdir(tmp_path)
    trap = {"class_path": f"{__name__}.Trap", "init_args": {"path": str(tmp_path / "sprung")}}
    network = {"_class_name": "AutoencoderKL", "scaling_factor": trap}
    with pytest.raises((ValueError, TypeError)):
        run(
            [
                "fit",
                "--config=demo/autoencoder.yaml",
                f"--data.store={store}",
                f"--model.autoencoder={json.dumps(network)}",
            ]
        )
    assert not (tmp_path / "sprung").exists()
