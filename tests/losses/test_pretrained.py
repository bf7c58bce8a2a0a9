"""A frozen network from files: every layout that is read, every fault that is told."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import Classifier
from safetensors.torch import save_file
from torch import Tensor, nn

from ctp_ldm.losses.pretrained import load_pretrained
from ctp_ldm.networks import ConfigError

CONFIG: dict[str, Any] = {"in_shape": [2, 8, 8], "classes": 2, "channels": [4, 4], "strides": [2, 2]}
NAMED = {"_class_name": "Classifier", **CONFIG}


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(Classifier(**CONFIG).state_dict())


def load(path: Path, prefix: str = "", config: dict[str, Any] = NAMED) -> nn.Module:
    return load_pretrained("features.network", config, path, prefix)


def require_loaded(network: nn.Module, state: dict[str, Tensor]) -> None:
    assert isinstance(network, Classifier)
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_safetensors_file(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "net.safetensors")
    require_loaded(load(tmp_path / "net.safetensors"), state)


def test_a_torch_file(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "net.pt")
    require_loaded(load(tmp_path / "net.pt"), state)


def test_a_lightning_checkpoint_of_which_a_prefix_is_taken(state: dict[str, Tensor], tmp_path: Path) -> None:
    inside = {f"net.{name}": value for name, value in state.items()}
    torch.save({"epoch": 3, "state_dict": {**inside, "loss.weight": torch.ones(2)}}, tmp_path / "last.ckpt")
    require_loaded(load(tmp_path / "last.ckpt", prefix="net."), state)


def test_it_is_frozen_and_in_evaluation_mode(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "net.pt")
    network = load(tmp_path / "net.pt")
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(m.training for m in network.modules())


def test_a_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"weights {re.escape(str(tmp_path / 'no.pt'))} are missing"):
        load(tmp_path / "no.pt")


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_a_damaged_file_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 no weights at all")
    with pytest.raises(ConfigError, match=f"{re.escape(name)} cannot be read as tensors and plain data"):
        load(tmp_path / name)


class Anything:
    """Not plain data."""


def test_a_file_with_objects_of_other_kinds_is_not_unpickled(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": state, "code": Anything()}, tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="cannot be read as tensors and plain data"):
        load(tmp_path / "net.pt")


@pytest.mark.parametrize("content", [{}, [1, 2], {"state_dict": {}}, {"model": {"weight": 1}, "epoch": 3}])
def test_a_file_without_weights_is_told(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="holds no weights; expected a dictionary of tensors"):
        load(tmp_path / "net.pt")


def test_keys_that_are_missing_or_left_over_are_listed(state: dict[str, Tensor], tmp_path: Path) -> None:
    first = next(iter(state))
    changed = {f"net.{k}": v for k, v in {**state, "more": torch.ones(1)}.items() if k != first}
    torch.save(changed, tmp_path / "x.pt")
    with pytest.raises(ConfigError) as failure:
        load(tmp_path / "x.pt", prefix="net.")
    lines = str(failure.value).splitlines()
    assert "do not fit features.network (Classifier)" in lines[0]
    assert [line.strip() for line in lines[1:]] == [
        f"missing in the file: net.{first}",
        "unknown to the network: net.more",
    ]


def test_another_prefix_is_told_with_the_files_first_key(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({f"net.{k}": v for k, v in state.items()}, tmp_path / "x.pt")
    with pytest.raises(ConfigError) as failure:
        load(tmp_path / "x.pt", prefix="model.")
    assert f"(prefix is 'model.', the file's first key 'net.{next(iter(state))}')" in str(failure.value)
    assert re.search(r"  … and \d+ more$", str(failure.value))


def test_weights_of_another_size_are_told(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ConfigError, match=r"size mismatch for .*: copying a param with shape"):
        load(tmp_path / "net.pt", config={**NAMED, "channels": [8, 4]})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**NAMED, "_class_name": "Clasifier"}, "features.network._class_name is Clasifier; expected one of"),
        ({**NAMED, "clases": 2}, "features.network.clases is not an argument of Classifier; did you mean classes?"),
    ],
)
def test_a_config_that_names_no_network_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(tmp_path / "net.pt", config=config)
