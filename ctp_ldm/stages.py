"""fit, validate, test and predict: LightningCLI in subclass mode, with runs that live in one folder."""

import signal
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, cast

import lightning as L
from jsonargparse import set_parsing_settings
from jsonargparse.typing import PositiveFloat
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ctp_ldm.callbacks import EMA, Evaluation, FiniteLoss, LastCheckpoint, NIfTIWriter
from ctp_ldm.callbacks.record import CONFIG, SaveRun
from ctp_ldm.configuration import find_configs, what_is_wrong
from ctp_ldm.data import TranslationDataModule
from ctp_ldm.modules import LesionReader, TranslationModule
from ctp_ldm.processes import leave_together
from ctp_ldm.runs import CHECKPOINTS, AtomicCheckpointIO, CheckpointError, hold, read_checkpoint
from ctp_ldm.runs.checks import checkpoint_bytes, require_all, require_space, require_validation
from ctp_ldm.runs.memory import explain_memory
from ctp_ldm.runs.resume import changed_settings, newest_whole
from ctp_ldm.signals import INTERRUPTED, StoppedBySignal
from ctp_ldm.spec import DataSpec

_HARMLESS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning on a newer torch
    r".*in eval mode at the start of training.*",  # the frozen autoencoder, on purpose
    r".*does not have many workers.*",  # the config's num_workers says how many there should be
    r".*recommended to use `self.log.*sync_dist=True.*",  # metrics are those of all processes already
    r".*custom batch sampler `WholePatients`.*",  # it gives all slices
    r".*Checkpoint directory .* exists and is not empty.*",  # a run goes on in its folder
    r".*You have overridden `on_before_batch_transfer` in `LightningModule`.*",  # that is where latents are looked up
    r".*The dirpath has changed from.*",  # when a checkpoint of another folder is tested
)


QUIET = {"exit_on_error": False}
"""The parser raises instead of printing how it is used and leaving."""


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
        parser.add_argument(
            "--ema",
            type=float | None,
            default=None,
            help="Decay of averaged weights, which validation, checkpoints and the next stage use; null for none.",
        )
        parser.add_argument(
            "--lr_per_sample",
            type=float | None,
            default=None,
            help="Learning rate per sample of an optimiser step (all processes and accumulated batches); it takes the "
            "place of the optimiser's own.",
        )
        parser.add_argument(
            "--segmenter",
            type=str | None,
            default=None,
            help="Checkpoint of a segmenter of real images; in test and validation it reads the synthetic ones.",
        )
        parser.add_argument(
            "--cutoff",
            type=float | Literal["validated"] | None,
            default=None,
            help="Score above which a voxel is lesion, in test and in the masks that predict writes of a model that "
            "finds lesions: a number, `validated` for what validate has kept in the run folder, null for the "
            "segmenter's own threshold. predict writes synthetic images without it.",
        )
        parser.add_argument(
            "--cutoff_false_ml",
            type=PositiveFloat,
            default=10.0,
            help="Mean false lesion volume per patient, in mL, that validate chooses the cut-off for.",
        )
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.link_arguments("data.spec", "model.init_args.spec", compute_fn=DataSpec.to_plain, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Without Lightning's warning about arguments that did not come from `sys.argv`.

        Raises:
            ValueError: what the parser refuses, without its page of usage.
        """
        try:
            self.config = parser.parse_args(cast(list[str], args))
        except ArgumentError as error:
            raise ValueError(what_is_wrong(str(error))) from error

    def _parse_ckpt_path(self) -> None:
        """Lightning would let a checkpoint's hyperparameters silently override config and command line (#21455)."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        root = config.trainer.default_root_dir
        if root is None:
            raise ValueError("trainer.default_root_dir is not set; expected the run's folder, such as runs/posttrain")
        if config.get("ckpt_path") is None and resolve_name(config.model.class_path).checkpoint_needed:
            config.ckpt_path = self._usual_checkpoint(Path(root))

    def _usual_checkpoint(self, root: Path) -> str | None:
        if self.subcommand == "fit":
            if self.config[self.subcommand].trainer.fast_dev_run:
                return None
            last = newest_whole(root)
            if last is not None:
                rank_zero_info(f"resuming from {last} (to start anew, choose another trainer.default_root_dir)")
            return str(last) if last is not None else None
        best = root / CHECKPOINTS / "best.ckpt"
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
        settings = self._get(self.config_init, "trainer")
        if settings.logger in (None, True):
            # No version folders: a run resumes where it was, and the next stage knows where its files are.
            kwargs["logger"] = TensorBoardLogger(save_dir=settings.default_root_dir, name="", version="")
        kwargs["plugins"] = [*(settings.plugins or []), AtomicCheckpointIO()]
        return super().instantiate_trainer(**kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[L.Callback]) -> L.Trainer:
        if any(isinstance(callback, EMA) for callback in config["callbacks"] or []):
            raise ValueError("trainer.callbacks names EMA; expected the key ema instead, such as ema: 0.999")
        self.evaluation = Evaluation()
        always = [EMA(self._get(self.config_init, "ema")), self.evaluation]
        return super()._instantiate_trainer(config, [*callbacks, *always])

    def _run_subcommand(self, subcommand: str) -> None:
        with ExitStack() as around:
            around.enter_context(explain_memory(self.trainer, self.datamodule.batch_size))
            if subcommand == "fit" and self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
                around.enter_context(hold(Path(self.trainer.default_root_dir)))
            try:
                super()._run_subcommand(subcommand)
            except StoppedBySignal:
                raise  # in all processes
            except BaseException:
                # Lightning leaves the processes that it launched waiting for this one.
                for child in getattr(self.trainer.strategy.launcher, "procs", ()):
                    child.kill()
                raise

    def _load_segmenter(self) -> None:
        path = self._get(self.config, "segmenter")
        if path is not None:
            self.evaluation.reader = LesionReader(Path(path), self.model.spec)

    def before_test(self) -> None:
        self._load_segmenter()
        self.evaluation.cutoff = self._get(self.config, "cutoff")

    def before_predict(self) -> None:
        self.evaluation.cutoff = self._get(self.config, "cutoff")

    def before_validate(self) -> None:
        self._load_segmenter()
        self.evaluation.cutoff_false_ml = self._get(self.config, "cutoff_false_ml")

    def before_fit(self) -> None:
        """All that can be told before hours of training, and before the record of a resumed run is written anew."""
        averaged = self._get(self.config, "ema") is not None
        root = Path(self.trainer.default_root_dir)
        checks = [self._load_start, self._load_segmenter, lambda: require_validation(self.trainer)]
        checks.append(lambda: self.model.require_data(self.datamodule))
        if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            checks.append(lambda: require_space(root, checkpoint_bytes(self.model, averaged)))
        require_all(checks)
        self.model.lr_per_sample = self._get(self.config, "lr_per_sample")
        accumulated, processes = self.trainer.accumulate_grad_batches, self.trainer.world_size
        size = self.datamodule.batch_size
        rank_zero_info(
            f"samples per step: {size * accumulated * processes} "
            f"(data.batch_size {size} × {accumulated} accumulated × {processes} processes)"
        )

    def _load_start(self) -> None:
        resumed, base = (self._get(self.config, key) for key in ("ckpt_path", "init_from"))
        if resumed is not None:
            self.model.require_own(resumed)
            self._say_changes(Path(resumed))
        elif base is not None:
            # Before trainer.fit, because averaged weights are copied from the model when its set-up begins.
            self.model.init_from(base)

    def _say_changes(self, resumed: Path) -> None:
        before = read_checkpoint(resumed).get(CONFIG)
        now = self._parser(self.subcommand).dump(self.config[self.subcommand])
        changes = changed_settings(before, now) if before is not None else []
        if changes:
            rank_zero_warn(
                "settings differ from those of the checkpoint:\n  " + "\n  ".join(changes) + "\nTo start from "
                f"its weights with another optimiser or schedule: --init_from {resumed} and another default_root_dir"
            )

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
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            print("dry run: everything of this stage worked; nothing was kept")
        else:
            print(f"run folder: {self.trainer.default_root_dir}")

    after_test = after_validate = after_predict = _say_where

    def after_fit(self) -> None:
        self._say_where()
        asked = self._get(self.config_init, "checkpoint").signals.received
        if asked is not None:  # after the last step; what comes after this stage is not wanted
            raise StoppedBySignal(asked, f"{asked.name} came when the run was finished")


def run_stage(arguments: Sequence[str]) -> None:
    """fit, validate, test or predict.

    Args:
        arguments: the command line, sub-command first.

    Raises:
        ValueError, FileNotFoundError: bad input, described.
        SystemExit: help was asked for, or arguments that the parser refuses.
    """
    # Where a config may hold anything, such as a network's arguments, it cannot have any class instantiated.
    set_parsing_settings(instantiate_subclass_spec_in_any=False)
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
            parser_kwargs=QUIET | {name: QUIET for name in StageCLI.subcommands()},
            # Always there: without them a run could not go on, and test and predict would keep nothing.
            trainer_defaults={
                "callbacks": [FiniteLoss(), NIfTIWriter()],
                "use_distributed_sampler": False,  # the DataModule shares slices and patients out exactly
            },
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=find_configs(arguments),
        )
        leave_together()
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error  # bad input to the Trainer, such as a GPU that is not there
    except StoppedBySignal:
        leave_together()  # all processes stop at the same point
        raise
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        # Lightning ends like that, without a word, where nothing notes signals: in all stages but fit.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise StoppedBySignal(signal.SIGINT, INTERRUPTED[arguments[0]]) from None
