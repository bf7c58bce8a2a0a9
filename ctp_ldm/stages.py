"""fit, validate, test and predict: LightningCLI in subclass mode, with runs that live in one folder."""

import json
import platform
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ctp_ldm import __version__
from ctp_ldm.callbacks import LastCheckpoint, NIfTIWriter, PatientTables
from ctp_ldm.configuration import find_configs
from ctp_ldm.data import TranslationDataModule
from ctp_ldm.modules import TranslationModule
from ctp_ldm.modules.checkpoints import CheckpointError
from ctp_ldm.spec import DataSpec

CHECKPOINTS = "checkpoints"
_HARMLESS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning on a newer torch
    r".*in eval mode at the start of training.*",  # the frozen autoencoder, on purpose
    r".*does not have many workers.*",  # the config's num_workers says how many there should be
)


class SaveRun(SaveConfigCallback):
    """Writes `<subcommand>.yaml` (the whole config) and `<subcommand>.json` (command line, versions, device)."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.name = TrainerFn(stage).value
        self.config_filename = f"{self.name}.yaml"
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        packages = ("torch", "lightning", "diffusers", "monai", "torchmetrics", "numpy")
        content = {
            "command": sys.argv,
            "ctp-ldm": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
            "processes": trainer.world_size,
        }
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1))


class StageCLI(LightningCLI):
    """LightningCLI in subclass mode: `model` and `data` may be any importable class.

    A run lives in one folder, `trainer.default_root_dir`. `fit` goes on from `checkpoints/last.ckpt` there when it
    exists; the other subcommands use `checkpoints/best.ckpt` unless `--ckpt_path` says otherwise.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--init_from",
            type=str | None,
            default=None,
            help="Checkpoint of the stage before. Its weights start this stage; only used by fit, not when resuming.",
        )
        parser.link_arguments("data.spec", "model.init_args.spec", compute_fn=DataSpec.to_plain, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Without Lightning's warning about arguments that did not come from `sys.argv`."""
        self.config = parser.parse_args(cast(list[str], args))

    def _parse_ckpt_path(self) -> None:
        """Lightning would let a checkpoint's hyperparameters silently override config and command line (#21455)."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        root = config.trainer.default_root_dir
        if root is None:
            raise ValueError("trainer.default_root_dir is not set; expected the run's folder, such as runs/posttrain")
        if config.get("ckpt_path") is None:
            config.ckpt_path = self._usual_checkpoint(Path(root) / CHECKPOINTS)

    def _usual_checkpoint(self, folder: Path) -> str | None:
        if self.subcommand == "fit":
            last = folder / "last.ckpt"
            if last.is_file():
                rank_zero_info(f"resuming from {last} (to start anew, choose another trainer.default_root_dir)")
            return str(last) if last.is_file() else None
        best = folder / "best.ckpt"
        if not best.is_file():
            raise CheckpointError(
                f"{best} is missing: run fit with this config first, or name a checkpoint with --ckpt_path"
            )
        return str(best)

    def instantiate_classes(self) -> None:
        """Errors of our own constructors as they are, without jsonargparse's dump of every value around them."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            if type(cause).__module__.startswith("ctp_ldm"):
                raise cause from None
            raise

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        if self._get(self.config_init, "trainer").logger in (None, True):
            root = self._get(self.config_init, "trainer").default_root_dir
            # No version folders: a run resumes where it was, and the next stage knows where its files are.
            kwargs["logger"] = TensorBoardLogger(save_dir=root, name="", version="")
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        resumed = self._get(self.config, "ckpt_path")
        if resumed is not None:
            self.model.require_own(resumed)  # before the run's record is written anew
        base = self._get(self.config, "init_from")
        # Before trainer.fit, because averaged weights are copied from the model when its set-up begins.
        if base is not None and resumed is None:
            self.model.init_from(base)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        kwargs["weights_only"] = True
        if subcommand == "predict":
            kwargs["return_predictions"] = False
        if subcommand in ("test", "validate"):
            kwargs["verbose"] = subcommand == "validate"  # test has a table of its own
        return kwargs

    @rank_zero_only
    def _say_where(self) -> None:
        print(f"run folder: {self.trainer.default_root_dir}")

    after_fit = after_test = after_validate = after_predict = _say_where


def run_stage(arguments: Sequence[str]) -> None:
    """fit, validate, test or predict.

    Args:
        arguments: the command line, sub-command first.

    Raises:
        ValueError, FileNotFoundError: bad input, described.
        SystemExit: help was asked for, or arguments that the parser refuses.
    """
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message=message)
    try:
        StageCLI(
            TranslationModule,
            TranslationDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveRun,
            save_config_kwargs={"overwrite": True},
            # Always there: without them a run could not go on, and test and predict would keep nothing.
            trainer_defaults={
                "callbacks": [LastCheckpoint(), PatientTables(), NIfTIWriter()],
                "use_distributed_sampler": False,  # the DataModule shares slices and patients out exactly
            },
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=find_configs(arguments),
        )
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error  # bad input to the Trainer, such as a GPU that is not there
