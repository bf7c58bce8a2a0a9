"""A small study from nothing to its table, in processes of its own."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from samples import DENOISER, KL, SEGMENTER

from ctp_ldm.cli import run
from ctp_ldm.configuration import shipped_configs
from ctp_ldm.experiments import Study, read_protocol

SHORT = {
    "trainer.max_steps": 2,
    "trainer.val_check_interval": 1,
    "model.init_args.lr_scheduler": None,
}


@pytest.mark.slow
def test_a_study_is_made_resumed_and_tabulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command itself, with networks and lengths that take seconds."""
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((shipped_configs() / "reproduce" / "protocol.yaml").read_text())
    small = content["sizes"]["small"]
    small |= {"spacing": 6.0, "size": [32, 48], "final": {"seed": 5, "parts": [3, 1, 2]}}
    content["families"] = {"ldm": content["families"]["ldm"]}
    content["stores"] = {"ctp": [], "ctp-and-maps": content["stores"]["ctp-and-maps"]}
    content["parts"] = {name: content["parts"][name] for name in ("autoencoder", "reader", "threshold")}
    content["arms"] = {name: content["arms"][name] for name in ("base", "control", "ours", "mean-of-16")}
    latent = {
        "model.init_args.autoencoder": KL,
        "model.init_args.denoiser": DENOISER,
        "model.init_args.condition": None,
    }
    settings = {"autoencoder": {"model.init_args.autoencoder": KL}, "base": latent, "control": latent, "ours": latent}
    settings["reader"] = {"model.init_args.network": SEGMENTER, "model.init_args.feature_layer": None}
    for name, part in {**content["parts"], **content["arms"]}.items():
        part["seeds"] = 1
        if name in settings:
            part["settings"] = SHORT | settings[name]
    content["arms"]["mean-of-16"]["settings"]["model.init_args.samples"] = 2
    Path("protocol.yaml").write_text(yaml.safe_dump(content))
    arguments = ["reproduce", "--size=small", "--protocol=protocol.yaml", "--out=study", "--jobs=2"]
    run(arguments)
    root = Path("study/small/final")
    results = {path.stem: json.loads(path.read_text()) for path in (root / "parts").iterdir()}
    assert set(results) == {
        f"{part}-seed0"
        for part in ("autoencoder", "reader", "threshold", "ldm-base", "ldm-control", "ldm-ours", "ldm-mean-of-16")
    }
    assert all(len(result["patients"]) == 2 for result in results.values())
    assert results["ldm-mean-of-16-seed0"]["summary"]["samples"] == 2
    assert results["ldm-ours-seed0"]["config"]["trainer"]["max_steps"] == 2
    assert set(results["ldm-ours-seed0"]["seconds"]) == {"fit", "validate", "test"}
    for name, result in results.items():
        chosen = json.loads((root / "runs" / name / "validation" / "cutoff.json").read_text())
        assert (result["summary"]["cutoff"], chosen["patients"]) == (chosen["cutoff"], 1)
    assert {path.stem for path in (root / "curves").iterdir()} == set(results)
    table = (root / "table.md").read_text()
    assert "conditional LDM: image and lesion terms (ours)" in table
    assert "## Operating curves" in table
    assert (root / "figure.png").is_file()
    assert (root / "curves.png").is_file()
    before = {path: path.stat().st_mtime_ns for path in (root / "parts").iterdir()}
    (root / "parts" / "ldm-ours-seed0.json").unlink()
    capsys.readouterr()
    run(arguments)
    assert "7 parts, 6 of them there already" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in (root / "parts").iterdir()}
    assert [path.stem for path in after if after[path] != before[path]] == ["ldm-ours-seed0"]


def test_the_plan_makes_first_seeds_first_and_every_start_before_it_is_needed() -> None:
    protocol = read_protocol()
    plan = Study(protocol, "small", "final", Path("out")).plan(["one-step-ours"])
    assert plan[:4] == [("autoencoder", 0), ("reader", 0), ("one-step-base", 0), ("one-step-ours", 0)]
    assert [seed for _, seed in plan] == sorted(seed for _, seed in plan)
    assert {seed for _, seed in plan} == {0, 1, 2}
    first = Study(protocol, "small", "final", Path("out"), seeds=1).plan(["one-step-ours"])
    assert first == [made for made in plan if made[1] == 0]


def test_another_config_is_another_part_and_so_is_what_starts_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config of one's own of a shipped name goes before the shipped one."""
    monkeypatch.chdir(tmp_path)
    before = {name: identity(name) for name in ("ldm-base", "ldm-ours", "direct")}
    own = tmp_path / "reproduce" / "small" / "diffusion.yaml"
    own.parent.mkdir(parents=True)
    own.write_text((shipped_configs() / "reproduce" / "small" / "diffusion.yaml").read_text() + "# longer\n")
    after = {name: identity(name) for name in before}
    assert after["ldm-base"]["configs"] != before["ldm-base"]["configs"]
    assert after["ldm-ours"]["configs"] == before["ldm-ours"]["configs"]
    assert after["ldm-ours"]["needs"] != before["ldm-ours"]["needs"]
    assert after["direct"] == before["direct"]


def identity(name: str) -> dict[str, Any]:
    return Study(read_protocol(), "small", "final", Path("out"))._identity(name, 0)


def test_the_choices_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    run(["ablate", "list"])
    assert "  weights          How strong should both decoded terms be" in capsys.readouterr().out


def test_unknown_names_are_refused_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"--parts theirs; expected some of autoencoder, reader"):
        run(["reproduce", "--size=small", "--parts=[theirs]"])
    with pytest.raises(ValueError, match=r"weight is no choice of ablations.yaml; expected one of[\s\S]*weights "):
        run(["ablate", "weight", "--size=small"])
    with pytest.raises(ValueError, match="holds no part; run ctp-ldm reproduce without --table_only first"):
        run(["reproduce", "--size=small", "--table-only"])
    assert list(tmp_path.iterdir()) == []
