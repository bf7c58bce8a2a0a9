"""The demo's order of things, with stages that take no time. `.ci/run` makes the real one."""

import threading
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ctp_ldm.commands import demo as module
from ctp_ldm.experiments.running import PartFailed, Processes


class Stages:
    """Notes which stages ran and in which order, instead of running them; ends `fails` with an error."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.ended, self.lock = fails, [""], threading.Lock()
        self.options: dict[str, list[str]] = {}

    def __call__(self, arguments: Sequence[str], *_: Any) -> None:
        own = list(takewhile(lambda word: word not in ("--segmenter", "--cutoff", "--cutoff_false_ml"), arguments))
        name = " ".join(word for word in own if word != "--config")
        with self.lock:
            self.ended.append(name)
            self.options[name] = list(arguments[len(own) :])
        if self.fails and self.fails in name:
            raise PartFailed(f"{name} failed")

    def place(self, name: str) -> int:
        return self.ended.index(name)


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Stages:
    found = Stages(getattr(request, "param", ""))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run_stage", found)
    monkeypatch.setattr(Processes, "run", lambda self, arguments, log: found(arguments))
    for name in ("phantom", "run_command", "compare", "report"):
        monkeypatch.setattr(module, name, lambda *_, name=name, **__: found([name]))
    row = {"detected_10ml": [1.0, 0.0], "lesion_dice": [0.25, 0.75], "false_ml": [3.0, 5.0]}
    for run in module.CEILINGS:
        (module.ROOT / run / "test").mkdir(parents=True)
        pd.DataFrame(row, index=pd.Index(["a", "b"], name="case")).to_csv(module.ROOT / run / "test" / "patients.csv")
    return found


def test_every_stage_comes_after_what_it_needs(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    module.demo(cases=9)
    at = stages.place
    fits = {name: at(f"fit demo/{name}.yaml") for name in ("autoencoder", "diffusion", "posttrain", "segmenter")}
    control, direct = at("fit demo/posttrain.yaml demo/control.yaml"), at("fit demo/segmenter.yaml demo/direct.yaml")
    assert at("phantom") < at("run_command") < min(fits.values())
    assert fits["autoencoder"] < fits["diffusion"] < min(fits["posttrain"], control)
    tests = {name: at(f"test demo/{name}.yaml") for name in fits}
    assert all(fits[name] < place and fits["segmenter"] < place for name, place in tests.items())
    assert max(control, fits["segmenter"]) < at("test demo/posttrain.yaml demo/control.yaml")
    assert direct < at("test demo/segmenter.yaml demo/direct.yaml")
    assert at("compare") > max(tests.values())
    assert stages.ended[-1] == "report"
    said = capsys.readouterr().out
    assert "the segmenter on real images: detects 0.50 of the lesions" in said
    assert "Dice 0.500, false lesion 4.0 mL" in said
    assert all(f"fit demo/{name}.yaml" in said for name in fits), "the time of every stage is told"


def test_every_arm_and_the_rival_are_tested_at_a_cutoff_that_one_rule_chose(stages: Stages) -> None:
    """The ceilings are not: they say what a reader with its own cut-off finds."""
    module.demo(cases=9)
    arms = ["diffusion.yaml", "posttrain.yaml", "posttrain.yaml demo/control.yaml", "segmenter.yaml demo/direct.yaml"]
    for arm in arms:
        chosen, tested = stages.options[f"validate demo/{arm}"], stages.options[f"test demo/{arm}"]
        assert stages.place(f"validate demo/{arm}") < stages.place(f"test demo/{arm}")
        assert chosen[-2:] == ["--cutoff_false_ml", str(module.FALSE_ML)]
        assert tested[-2:] == ["--cutoff", "validated"]
        assert chosen[:-2] == tested[:-2], "the same reader"
    assert "--cutoff" not in stages.options["test demo/segmenter.yaml"]


@pytest.mark.parametrize("stages", ["fit demo/segmenter.yaml", "fit demo/diffusion.yaml"], indirect=True)
def test_a_stage_that_fails_ends_the_demo(stages: Stages) -> None:
    """Whether it runs here or beside."""
    with pytest.raises(PartFailed, match=f"{stages.fails} failed"):
        module.demo(cases=9)
    assert "compare" not in stages.ended
    assert not any(thread.name.startswith("ThreadPool") for thread in threading.enumerate())
