"""What is declared before anything is run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from samples import SPEC

from ctp_ldm.cli import run
from ctp_ldm.configuration import find_configs, shipped_configs
from ctp_ldm.experiments import Protocol, ProtocolError, read_ablations, read_protocol
from ctp_ldm.experiments.parts import Place, commands, needs
from ctp_ldm.modules import LatentDiffusionModule

PROTOCOL = shipped_configs() / "reproduce" / "protocol.yaml"
PLACE = Place(Path("out"))
STAGES = ["autoencoder", "reader", "ldm-base", "ldm-ours", "pix2pix", "palette"]
WHOLE = [*STAGES, "direct", "pixel-regression", "oracle", "one-step-base", "bridge-ours"]


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return read_protocol()


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = PROTOCOL.read_text()
    assert old in text
    path = tmp_path / "protocol.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_every_family_has_every_arm_that_means_something_in_it(protocol: Protocol) -> None:
    for family in ("ldm", "one-step", "bridge"):
        for arm in ("base", "control", "ours", "image", "published", "latent-lesion"):
            assert f"{family}-{arm}" in protocol.parts
    assert "ldm-mean-of-16" in protocol.parts
    assert "one-step-mean-of-16" not in protocol.parts, "it has no randomness"


def test_primary_arms_have_three_seeds_and_start_from_the_base_of_their_seed(protocol: Protocol) -> None:
    for family in protocol.families:
        for arm in ("base", "control", "ours"):
            assert protocol.parts[f"{family}-{arm}"].seeds >= 3
        for seed in range(3):
            assert needs(protocol, f"{family}-ours", seed)["fit"] == [(f"{family}-base", seed)]
    judged = {"validate": [("reader", 0)], "test": [("reader", 0)]}
    assert needs(protocol, "ldm-base", 2) == {"fit": [("autoencoder", 0)], **judged}
    assert needs(replace(protocol, cutoff_false_ml=None), "threshold", 0) == {"test": []}


def test_ours_and_control_differ_in_their_objective_only(protocol: Protocol) -> None:
    for family in protocol.families:
        ours, control = (commands(protocol, "small", PLACE, f"{family}-{arm}", 1)["fit"] for arm in ("ours", "control"))
        assert set(control) - set(ours) == {"--config=control.yaml", root_dir(f"{family}-control")}
        assert set(ours) - set(control) == {root_dir(f"{family}-ours")}


def root_dir(part: str) -> str:
    return f"--trainer.default_root_dir=out/runs/{part}-seed1"


@pytest.mark.parametrize("part", ["ldm-ours", "ldm-mean-of-16", "direct", "threshold", "reader"])
def test_each_part_chooses_its_cutoff_by_the_rule_before_it_is_tested(
    protocol: Protocol, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On all patients that choose checkpoints, with the segmenter and the checkpoint of the test."""
    lines = commands(replace(protocol, cutoff_false_ml=7.0), "small", PLACE, part, 0)
    assert list(lines)[-2:] == ["validate", "test"]
    chosen, used = (printed(lines[step], capsys) for step in ("validate", "test"))
    assert (chosen["cutoff_false_ml"], chosen["data"]["init_args"]["validation_cases"]) == (7.0, None)
    assert used["cutoff"] == "validated"
    for key in ("segmenter", "ckpt_path", "model"):
        assert chosen[key] == used[key], key
    assert chosen["trainer"]["default_root_dir"] == used["trainer"]["default_root_dir"]


def test_without_the_rule_parts_are_tested_with_the_thresholds_of_their_configs(protocol: Protocol) -> None:
    lines = commands(replace(protocol, cutoff_false_ml=None), "small", PLACE, "ldm-ours", 0)
    assert list(lines) == ["fit", "test"]
    assert not any("cutoff" in word for word in lines["test"])


def test_patients_of_development_and_of_the_table_are_others(protocol: Protocol) -> None:
    for size in protocol.sizes.values():
        assert size.development.seed != size.final.seed


@pytest.mark.parametrize("size", ["small", "standard"])
def test_every_config_of_every_part_is_shipped(protocol: Protocol, size: str) -> None:
    named = set()
    for name in protocol.parts:
        for line in commands(protocol, size, PLACE, name, 0).values():
            named |= {word.removeprefix("--config=") for word in find_configs(line) if word.startswith("--config=")}
    own = {str(path) for path in (shipped_configs() / "reproduce" / size).iterdir()}
    assert own <= named, "a config that nobody uses"


def printed(line: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The whole config of a command line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run([*line, "--print_config"])
    assert stop.value.code == 0
    return dict(yaml.safe_load(capsys.readouterr().out))


@pytest.mark.parametrize(("size", "part"), [*(("small", part) for part in WHOLE), *(("standard", p) for p in STAGES)])
def test_what_a_part_fits_is_a_whole_config(
    protocol: Protocol, size: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = printed(commands(protocol, size, PLACE, part, 0)["fit"], capsys)
    assert config["trainer"]["default_root_dir"] == f"out/runs/{part}-seed0"
    schedule = config["model"]["init_args"]["lr_scheduler"]["init_args"]
    assert schedule["total_steps"] == config["trainer"]["max_steps"], "the learning rate ends with the run"
    assert config["trainer"]["max_steps"] % config["trainer"]["val_check_interval"] == 0


@pytest.mark.parametrize("family", ["ldm", "one-step", "bridge"])
def test_arms_are_what_they_are_called_in_every_family(
    protocol: Protocol, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """jsonargparse merges lists of terms item by item: what an arm leaves open would be another arm's."""
    arms = {
        arm: printed(commands(protocol, "small", PLACE, f"{family}-{arm}", 0)["fit"], capsys)["model"]["init_args"]
        for arm in ("ours", "control", "image", "published", "latent-lesion")
    }
    terms = {arm: [term["init_args"] for term in found["terms"] or []] for arm, found in arms.items()}
    assert [term["region"] for term in terms["ours"]] == ["brain", "lesion"]
    assert [term["region"] for term in terms["image"]] == ["brain"]
    assert terms["control"] == terms["latent-lesion"] == []
    assert arms["control"]["latent_weight"] == arms["latent-lesion"]["latent_weight"] == 1
    assert arms["latent-lesion"]["lesion_weight"] > 0
    assert arms["published"]["decoded_target"] == "reconstruction"
    published = [(t["region"], t["weight"], t["per"], t["power"], t["channel_weights"]) for t in terms["published"]]
    assert published == [("image", 0.02, "brain", 2, None), ("lesion", 0.04, "region", 2, None)]
    for key in ("scheduler", "noise", "timestep_range", "steps", "optimizer", "lr_scheduler"):
        assert all(found[key] == arms["ours"][key] for found in arms.values()), key


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("start: autoencoder", "start: autoencodr", "part ldm-base: start is autoencodr"),
        ("reader: reader", "reader: nobody", "reader is nobody, which is no part"),
        ("store: ctp-and-truth", "store: truth", "part oracle: store is truth; expected one of ctp"),
        ("    stage: segmenter", "    stagee: segmenter", "stagee"),
        ("ours: ours", "ours: theirs", "primary names the arm theirs"),
        ("superior: [lesion_dice,", "superior: [dicee,", "primary names the metric dicee: no metric is called"),
        ("superior: [lesion_dice,", "superior: [volume_error_ml,", "no volume error"),
        ("brain_mae_adc: 5.0", "absolute_volume_error_ml: 5.0", "no volume error"),
        ("cutoff_false_ml: 10.0", "cutoff_false_ml: 0", "cutoff_false_ml is 0.* expected more than 0 mL, or null"),
        ("brain_mae_adc: 5.0", "brain_mae_adc: 0.0", "the margin of brain_mae_adc is 0.0; expected more than 0"),
    ],
)
def test_a_protocol_that_names_what_there_is_not_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint) as refused:
        read_protocol(edited(tmp_path, old, new))
    assert "protocol.yaml" in str(refused.value)


def test_no_protocol_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        read_protocol(tmp_path / "none.yaml")


def test_an_ablation_changes_what_it_says_and_nothing_else(protocol: Protocol) -> None:
    for name, ablation in read_ablations(protocol).items():
        varied, judged = ablation.parts(name, protocol)
        first, *others = judged.values()
        usual = commands(varied, "small", PLACE, first, 0)["test"]
        for label, part in zip(list(judged)[1:], others, strict=True):
            options = (option.removeprefix(f"{ablation.part}/") for option in ablation.variants[label])
            wanted = {f"--{option}" for option in options if "/" not in option}
            odd = set(commands(varied, "small", PLACE, part, 0)["test"]) - set(usual)
            found = {word.split("=")[0] for word in odd}
            assert wanted <= found
            assert wanted or label in ablation.stores
            assert found <= wanted | {"--trainer.default_root_dir", "--ckpt_path", "--data.store", "--config"}


def test_a_variant_of_a_chain_starts_from_its_own_base(protocol: Protocol) -> None:
    ablation = read_ablations(protocol)["prediction"]
    varied, judged = ablation.parts("prediction", protocol)
    assert needs(varied, judged["v"], 0)["fit"] == [("ldm-base~prediction-v", 0)]
    assert needs(varied, "ldm-base~prediction-v", 0)["fit"] == [("autoencoder", 0)]


def test_an_option_can_be_for_one_of_the_refits_alone(protocol: Protocol) -> None:
    ablation = read_ablations(protocol)["autoencoder"]
    varied, judged = ablation.parts("autoencoder", protocol)
    part = judged["VQ, 3 channels, 1024 codes"]
    option = "--model.init_args.regulariser_weight=1.0"
    assert option in commands(varied, "small", PLACE, part.replace("ldm-ours", "autoencoder"), 0)["fit"]
    assert option not in commands(varied, "small", PLACE, part, 0)["fit"]


@pytest.mark.parametrize("name", ["weighting", "prediction", "sampler", "autoencoder"])
def test_networks_and_schedules_of_variants_can_be_built_on_the_studys_grid(
    protocol: Protocol, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a variant that is only tested anew is one of the same model."""
    ablation = read_ablations(protocol)[name]
    varied, judged = ablation.parts(name, protocol)
    size = protocol.sizes["small"]
    spec = replace(SPEC, spacing=size.spacing, size=tuple(size.size)).to_plain()
    built = []
    for part in judged.values():
        given = printed(commands(varied, "small", PLACE, part, 0)["test"], capsys)["model"]["init_args"]
        kept = ("autoencoder", "denoiser", "scheduler", "steps", "noise", "timestep_range", "min_snr_gamma")
        built.append(LatentDiffusionModule(spec, **{key: given[key] for key in kept}))
    if not ablation.refits:
        assert all(module.process.same_as(built[0].process) for module in built)
