"""Training with latents that were encoded once ends where training without ends, as a user calls it."""

from pathlib import Path

import pytest
import torch
from running import Command, options

from ctp_ldm.networks import ConfigError
from ctp_ldm.runs import read_checkpoint

CACHED = "--model.init_args.cache_latents=latents"


@pytest.mark.parametrize("augment", ["false", "mirror", "flips"])
@pytest.mark.parametrize("stage", ["diffusion", "posttrain"])
def test_a_run_with_latents_encoded_once_ends_with_the_weights_of_one_without(
    stage: str, augment: str, command: Command, store: Path, tmp_path: Path, bases: dict[str, Path]
) -> None:
    """And it may be interrupted in the middle of an epoch."""
    arguments = [
        *options(f"demo/{stage}.yaml", store, tmp_path),
        f"--init_from={bases[{'diffusion': 'autoencoder', 'posttrain': 'diffusion'}[stage]]}",
        f"--data.augment={augment}",
        "--data.lesion_oversampling=1.5",
        "--trainer.val_check_interval=4",
        "--trainer.num_sanity_val_steps=0",
        "--trainer.limit_val_batches=1",
    ]
    command("fit", *arguments, "--trainer.default_root_dir=runs/without", "--trainer.max_steps=8")
    for steps in (4, 8):
        command("fit", *arguments, CACHED, "--trainer.default_root_dir=runs/with", f"--trainer.max_steps={steps}")
    assert len(list(Path("latents").iterdir())) == 1
    without, found = (read_checkpoint(Path(f"runs/{run}/checkpoints/last.ckpt")) for run in ("without", "with"))
    assert without["global_step"] == found["global_step"] == 8
    start = read_checkpoint(bases["diffusion"])["state_dict"]
    for name, value in without["state_dict"].items():
        torch.testing.assert_close(found["state_dict"][name], value, atol=1e-5, rtol=1e-4, msg=name)
    assert any(not torch.equal(value, start[name]) for name, value in found["state_dict"].items() if name in start)


def test_its_checkpoint_needs_no_latents_and_goes_on_without_them(
    command: Command, store: Path, tmp_path: Path, bases: dict[str, Path], recwarn: pytest.WarningsRecorder
) -> None:
    arguments = [
        *options("demo/diffusion.yaml", store, tmp_path),
        f"--init_from={bases['autoencoder']}",
        "--data.augment=mirror",
        "--trainer.val_check_interval=2",
        "--trainer.default_root_dir=run",
    ]
    command("fit", *arguments, CACHED, "--trainer.max_steps=2")
    for path in Path("latents").iterdir():
        path.unlink()
    Path("latents").rmdir()
    command("test", *arguments, CACHED)
    command("fit", *arguments, "--trainer.max_steps=4")
    assert not Path("latents").exists()
    assert not [w for w in recwarn if "cache_latents" in str(w.message)], "a place is no setting of the model"


def test_with_the_published_augmentation_it_is_refused_before_anything_is_written(
    command: Command, store: Path, tmp_path: Path, bases: dict[str, Path]
) -> None:
    arguments = [*options("demo/diffusion.yaml", store, tmp_path), f"--init_from={bases['autoencoder']}", CACHED]
    arguments.append("--data.augment=true")
    with pytest.raises(ConfigError, match=r"data\.init_args\.augment is true.*cache_latents: null, found latents"):
        command("fit", *arguments, "--trainer.default_root_dir=run")
    assert not Path("run/fit.yaml").exists()
    assert not Path("latents").exists()


def test_a_module_without_latents_knows_no_such_key(command: Command, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cache_latents"):
        command("fit", *options("demo/autoencoder.yaml", store, tmp_path), CACHED)
