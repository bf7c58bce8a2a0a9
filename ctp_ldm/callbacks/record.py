"""What a run was: its config, command line, versions and device."""

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn

from ctp_ldm import __version__
from ctp_ldm.paths import shown_command

CONFIG = "config"


class SaveRun(SaveConfigCallback):
    """Writes `<subcommand>.yaml` (the whole config) and `<subcommand>.json` (command line, versions, device).

    The config has the paths that it takes to do it again; the command line goes without those outside the current
    folder.

    Checkpoints hold the config too, to tell what has changed when a run goes on.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.name = TrainerFn(stage).value
        self.config_filename = f"{self.name}.yaml"
        self.text = self.parser.dump(self.config)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        packages = ("lightning", "diffusers", "monai", "torchmetrics", "numpy")
        content = {
            "command": shown_command(sys.argv),
            "ctp-ldm": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,  # with the CUDA it was built for, which its metadata need not have
            **{name: version(name) for name in packages},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
            "processes": trainer.world_size,
        }
        if self.name == "fit":
            content["samples per step"] = pl_module.samples_per_step()  # type: ignore[operator]
        folder = Path(trainer.default_root_dir)  # log_dir would ask the other processes, which are not here
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1))

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[CONFIG] = self.text
