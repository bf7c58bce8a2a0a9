"""Arguments that make a shipped config run in seconds on a CPU."""

from collections.abc import Callable
from pathlib import Path

import yaml
from samples import DENOISER, KL, VQ

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
]
OVERLAYS = {
    "control.yaml": "posttrain.yaml",
    "demo/control.yaml": "demo/posttrain.yaml",
    "hardware/cpu.yaml": "autoencoder.yaml",
    "hardware/gpu.yaml": "autoencoder.yaml",
}
Command = Callable[..., None]


def configs_of(name: str) -> list[str]:
    """`--config` arguments that make a whole config of this one."""
    return [f"--config={n}" for n in ([OVERLAYS[name], name] if name in OVERLAYS else [name])]


def stage_of(name: str) -> str:
    """autoencoder, diffusion or posttrain."""
    return OVERLAYS.get(name, name).removeprefix("demo/").removesuffix(".yaml")


def shrunk(name: str, folder: Path) -> list[str]:
    """A config with tiny networks, to be given after the config itself."""
    shipped = yaml.safe_load((shipped_configs() / OVERLAYS.get(name, name)).read_text())
    kind = shipped["model"]["init_args"]["autoencoder"]["_class_name"]
    arguments: dict[str, object] = {"autoencoder": VQ if kind == "VQModel" else KL, "lr_scheduler": None}
    if stage_of(name) != "autoencoder":
        arguments |= {"denoiser": DENOISER, "steps": 2}
    path = folder / f"shrunk-{stage_of(name)}.yaml"
    path.write_text(yaml.safe_dump({"model": {"init_args": arguments}}))
    return [f"--config={path}"]


def options(name: str, store: Path, folder: Path) -> list[str]:
    """Everything that makes a shipped config small, with its data."""
    return [*configs_of(name), *shrunk(name, folder), *GRID, *SMALL, f"--data.store={store}"]
