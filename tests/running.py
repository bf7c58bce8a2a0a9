"""Arguments that make a shipped config run in seconds on a CPU."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from samples import DENOISER, ENCODER, KL, PIXELS, SEGMENTER, VQ

from ctp_ldm.configuration import shipped_configs

GRID = ["--data.spacing=6", "--data.size=[32,40]"]
SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.precision=32-true",
    "--trainer.accumulate_grad_batches=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--data.num_workers=0",
    "--data.batch_size=4",
    *("--data.split=ctp_ldm.data.RandomSplit", "--data.split.val=0.15", "--data.split.test=0.15"),
]
OVERLAYS = {
    "arms/image.yaml": "posttrain.yaml",
    "arms/latent-lesion.yaml": "posttrain.yaml",
    "arms/published.yaml": "posttrain.yaml",
    "control.yaml": "posttrain.yaml",
    "demo/control.yaml": "demo/posttrain.yaml",
    "demo/direct.yaml": "demo/segmenter.yaml",
    "direct.yaml": "segmenter.yaml",
    "families/bridge.yaml": "diffusion.yaml",
    "families/bridge-posttrain.yaml": "posttrain.yaml",
    "families/end-to-end.yaml": "posttrain.yaml",
    "families/regression.yaml": "diffusion.yaml",
    "families/regression-posttrain.yaml": "posttrain.yaml",
    "hardware/cpu.yaml": "autoencoder.yaml",
    "hardware/gpu.yaml": "autoencoder.yaml",
    "rivals/palette.yaml": "diffusion.yaml",
    "rivals/pix2pix.yaml": "posttrain.yaml",
    "rivals/pixel-regression.yaml": "diffusion.yaml",
}
SHIPPED = sorted(
    name
    for path in shipped_configs().rglob("*.yaml")
    if not (name := str(path.relative_to(shipped_configs()))).startswith(("tasks/", "reproduce/"))
)
"""All but the tasks, which are no stages, and the study's, which tests/experiments runs."""
Command = Callable[..., None]


def configs_of(name: str) -> list[str]:
    """`--config` arguments that make a whole config of this one."""
    return [f"--config={n}" for n in ([OVERLAYS[name], name] if name in OVERLAYS else [name])]


def stage_of(name: str) -> str:
    """autoencoder, diffusion, posttrain, segmenter or threshold."""
    return Path(OVERLAYS.get(name, name)).stem


def setting(name: str, *keys: str) -> Any:
    """A value of a shipped config, of the overlay before that of the config under it; None where neither has it."""
    *sections, last = keys
    for config in (name, OVERLAYS.get(name)):
        found = yaml.safe_load((shipped_configs() / config).read_text()) if config else {}
        for section in sections:
            found = found.get(section, {})
        if last in found:
            return found[last]
    return None


def base_of(name: str, names: Sequence[str]) -> str | None:
    """The shipped config that writes the checkpoint which this one starts from; None where it starts from none."""
    start = setting(name, "init_from")
    if start is None:
        return None
    root = str(Path(start).parents[1])
    (base,) = [n for n in names if setting(n, "trainer", "default_root_dir") == root and not n.startswith("hardware/")]
    return base


def shrunk(name: str, folder: Path) -> list[str]:
    """A config with tiny networks, to be given after the config itself."""
    kind = setting(name, "model", "init_args", "autoencoder", "_class_name")
    tiny = {"VQModel": VQ, "PixelSpace": PIXELS}.get(kind, KL)
    arguments: dict[str, object] = {"autoencoder": tiny, "lr_scheduler": None}
    if stage_of(name) == "segmenter":
        arguments = {"network": SEGMENTER, "feature_layer": None, "lr_scheduler": None}
    elif stage_of(name) == "threshold":
        arguments = {}
    elif stage_of(name) != "autoencoder":
        one_step = setting(name, "model", "init_args", "noise") is not None
        arguments |= {"denoiser": DENOISER, "steps": 1 if one_step else 2}
        arguments["condition"] = ENCODER if setting(name, "model", "init_args", "condition") else None
    path = folder / f"shrunk-{name.replace('/', '-')}"
    path.write_text(yaml.safe_dump({"model": {"init_args": arguments}}))
    return [f"--config={path}"]


def options(name: str, store: Path, folder: Path) -> list[str]:
    """Everything that makes a shipped config small, with its data."""
    return [*configs_of(name), *shrunk(name, folder), *GRID, *SMALL, f"--data.store={store}"]
