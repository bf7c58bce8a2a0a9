"""A component's configuration is taken literally: whatever diffusers would ignore is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import UNet2DModel
from samples import DENOISER

from ctp_ldm.data import CTPToDiffusionMRI
from ctp_ldm.networks import ConfigError, build_component

CLASSES = {"UNet2DModel": UNet2DModel}
CHANNELS = {"in_channels": 6, "out_channels": 3}


def build(**changes: Any) -> UNet2DModel:
    return build_component("denoiser", {**DENOISER, **changes}, CLASSES, **CHANNELS)


def test_a_config_becomes_the_network_that_it_describes() -> None:
    net = build()
    assert [net.config[key] for key in ("in_channels", "out_channels", "block_out_channels")] == [6, 3, [8, 16]]


def test_a_config_file_that_diffusers_wrote_is_read_back(tmp_path: Path) -> None:
    build().save_config(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    read = {k: v for k, v in written.items() if k not in CHANNELS}
    assert build_component("denoiser", read, CLASSES, **CHANNELS).config["norm_num_groups"] == 4


def test_a_misspelt_key_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"denoiser\.layer_per_block .* did you mean layers_per_block\?"):
        build(layer_per_block=2)


def test_a_key_like_no_other_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"denoiser\.zzz .*knows .*layers_per_block"):
        build(zzz=2)


def test_what_follows_from_the_data_may_not_be_configured() -> None:
    with pytest.raises(ConfigError, match=r"denoiser\.in_channels follows from the data \(6\)"):
        build(in_channels=6)


def test_all_wrong_keys_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)in_channels.*layer_per_block"):
        build(in_channels=6, layer_per_block=2)


@pytest.mark.parametrize("name", ["UNet3DModel", None])
def test_an_unknown_class_is_refused_with_the_known_ones(name: str | None) -> None:
    with pytest.raises(ConfigError, match=rf"denoiser\._class_name is {name}; expected one of \['UNet2DModel'\]"):
        build(_class_name=name)


def test_arguments_that_the_class_refuses_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="denoiser: UNet2DModel refuses its arguments"):
        build(up_block_types=["UpBlock2D"])


def test_the_full_size_denoiser_is_the_published_one_with_wider_ends() -> None:
    config = yaml.safe_load((Path(__file__).parents[2] / "configs" / "diffusion.yaml").read_text())
    arguments = config["model"]["init_args"]
    latent = arguments["autoencoder"]["latent_channels"]
    sources = len(CTPToDiffusionMRI().task.spec(1.0, (192, 224)).source)

    def count(in_channels: int, out_channels: int) -> int:
        with torch.device("meta"):
            net = build_component(
                "denoiser", arguments["denoiser"], CLASSES, in_channels=in_channels, out_channels=out_channels
            )
        return sum(p.numel() for p in net.parameters())

    published = count(18, 3)
    assert round(published / 1e6, 3) == 739.385
    kernel = 3 * 3 * 224
    assert count(latent + sources, latent) == published + (latent + sources - 18) * kernel + (latent - 3) * (kernel + 1)
