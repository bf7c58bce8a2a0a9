"""A file that is not what it should be is refused in words, and nothing in it is run."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ctp_ldm.interop import read_compvis
from ctp_ldm.runs import CheckpointError

UNET = "model.diffusion_model."
Change = Callable[[dict[str, Tensor]], object]


def changed(path: Path, change: Change) -> Path:
    state = torch.load(path, weights_only=True)["state_dict"]
    change(state)
    torch.save({"state_dict": state}, path)
    return path


@pytest.mark.parametrize(
    ("change", "complaints"),
    [
        pytest.param(
            lambda s: s.update({"first_stage_model.quantize.embedding.weight": torch.zeros(16, 5)}),
            ["of another shape", "first_stage_model.quantize.embedding.weight (16, 5), expected (16, 3)"],
            id="other codebook",
        ),
        pytest.param(
            lambda s: s.update({f"{UNET}out.2.bias": torch.zeros(6)}),
            [f"{UNET}out.2.bias (6,), expected (3,)"],
            id="other output",
        ),
        pytest.param(
            lambda s: s.pop("first_stage_model.quantize.embedding.weight"),
            ["missing: first_stage_model.quantize.embedding.weight"],
            id="no codebook",
        ),
        pytest.param(
            lambda s: s.pop(f"{UNET}input_blocks.4.1.qkv.weight"),
            [f"missing: {UNET}input_blocks.4.1.qkv.weight"],
            id="no qkv",
        ),
        pytest.param(
            lambda s: [s.pop(k) for k in list(s) if k.startswith("first_stage_model.")],
            ["the autoencoder is missing"],
            id="no autoencoder",
        ),
        pytest.param(
            lambda s: s.update({"segmenter.weight": torch.zeros(2)}), ["unknown: segmenter.weight"], id="unknown part"
        ),
        pytest.param(
            lambda s: s.update({f"{UNET}middle_block.3.weight": torch.zeros(2)}),
            [f"unknown: {UNET}middle_block.3.weight"],
            id="unknown layer",
        ),
        pytest.param(
            lambda s: s.pop("cond_stage_model.channel_mapper.weight"),
            ["missing: cond_stage_model.channel_mapper.weight"],
            id="no mapper",
        ),
        pytest.param(lambda s: s.pop("alphas_cumprod"), ["missing: alphas_cumprod"], id="no schedule"),
        pytest.param(
            lambda s: s.update({"betas": torch.zeros(7)}), ["betas (7,), expected (1000,)"], id="other schedule"
        ),
        pytest.param(
            lambda s: s.update({"scale_factor": torch.ones(3)}), ["scale_factor (3,), expected ()"], id="many scales"
        ),
        pytest.param(
            lambda s: s.update({"cond_stage_model.channel_mapper.bias": torch.zeros(4)}),
            ["unknown: cond_stage_model.channel_mapper.bias"],
            id="mapper with bias",
        ),
        pytest.param(
            lambda s: s.update({"cond_stage_model.channel_mapper.weight": torch.zeros(4, 4, 3, 3)}),
            ["channel_mapper.weight (4, 4, 3, 3), expected (4, 4, 1, 1)"],
            id="mapper with another kernel",
        ),
        pytest.param(
            lambda s: s.update({"model_ema.diffusion_modelout2bias": torch.zeros(3)}),
            ["missing: model_ema.diffusion_model", "and"],
            id="only one average",
        ),
        pytest.param(
            lambda s: s.update({f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_q.weight": torch.zeros(2, 2)}),
            ["cross-attention", "concatenated"],
            id="cross-attention",
        ),
        pytest.param(
            lambda s: s.update({f"{UNET}label_emb.weight": torch.zeros(2, 2)}), ["label_emb"], id="class conditioning"
        ),
        pytest.param(
            lambda s: s.update({f"{UNET}output_blocks.2.2.in_layers.0.weight": torch.zeros(64)}),
            ["resblock_updown"],
            id="resampling residual blocks",
        ),
        pytest.param(
            lambda s: s.update(
                {
                    f"{UNET}middle_block.0.emb_layers.1.weight": torch.zeros(128, 128),
                    f"{UNET}middle_block.0.emb_layers.1.bias": torch.zeros(128),
                }
            ),
            ["use_scale_shift_norm"],
            id="scale and shift",
        ),
    ],
)
def test_weights_of_something_else(change: Change, complaints: list[str], checkpoint: Path) -> None:
    with pytest.raises(CheckpointError) as refusal:
        read_compvis(changed(checkpoint, change))
    for complaint in [*complaints, str(checkpoint)]:
        assert complaint in str(refusal.value)


def test_all_faults_are_told_at_once(checkpoint: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        state["stray"] = torch.zeros(1)
        state.pop(f"{UNET}time_embed.0.bias")
        state["first_stage_model.quant_conv.bias"] = torch.zeros(7)

    with pytest.raises(CheckpointError) as refusal:
        read_compvis(changed(checkpoint, change))
    assert str(refusal.value).splitlines()[1:] == [
        "  unknown: stray",
        f"  missing: {UNET}time_embed.0.bias",
        "  of another shape: first_stage_model.quant_conv.bias (7,), expected (3,)",
    ]


@pytest.mark.parametrize(("arguments", "complaint"), [({"head_width": 48}, "width 48"), ({"norm_groups": 48}, "48")])
def test_settings_that_do_not_fit_the_weights(arguments: dict[str, Any], complaint: str, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        read_compvis(checkpoint, **arguments)


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harmed",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_with_code_is_refused_unrun(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    contents = {"state_dict": {"encoder.conv_in.weight": torch.zeros(1)}, "callbacks": _Harmful()}
    torch.save(contents, "bad.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as refusal:
        read_compvis("bad.ckpt")
    assert not Path("harmed").exists()
    message = str(refusal.value)
    assert "posix.mkdir" in message
    assert 'weights = torch.load("bad.ckpt", map_location="cpu", weights_only=False)["state_dict"]' in message
    assert 'torch.save({"state_dict": weights}, "bad.weights.ckpt")' in message


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999], ids=["empty", "10 bytes", "half", "almost all"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file(kept: float, zipped: bool, checkpoint: Path) -> None:
    torch.save(torch.load(checkpoint, weights_only=True), checkpoint, _use_new_zipfile_serialization=zipped)
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(CheckpointError, match="truncated"):
        read_compvis(checkpoint)


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ({"state_dict": {"backbone.weight": torch.zeros(2)}}, "not in CompVis' layout.*'backbone.weight'"),
        ({"state_dict": {}}, "holds no weights"),
        ({"state_dict": {"encoder.x": "text"}}, "holds no weights"),
        ([torch.zeros(2)], "holds no weights"),
        (torch.zeros(2), "holds no weights"),
    ],
)
def test_a_file_of_something_else(contents: Any, complaint: str, tmp_path: Path) -> None:
    torch.save(contents, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=complaint):
        read_compvis(tmp_path / "other.ckpt")


@pytest.mark.parametrize(
    "name",
    [
        f"{UNET}out.2.bias",
        "first_stage_model.decoder.conv_out.bias",
        "cond_stage_model.channel_mapper.weight",
        "alphas_cumprod",
    ],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_named(name: str, value: float, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"not finite \(NaN or infinite\): {name}; expected numbers.*earlier"):
        read_compvis(changed(checkpoint, lambda state: state[name].flatten()[:1].fill_(value)))


@pytest.mark.parametrize("content", [pickle.dumps({"encoder.x": [1.0]}), b"some text\n"], ids=["pickle", "text"])
def test_a_file_that_torch_never_wrote(content: bytes, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "other.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"other\.ckpt is no torch checkpoint") as refusal:
        read_compvis(tmp_path / "other.ckpt")
    assert "weights_only" not in str(refusal.value)
    assert not recwarn.list


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        read_compvis(tmp_path / "none.ckpt")
