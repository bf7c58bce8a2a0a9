"""DataModules: what a translation task reads and synthesises, as batches of slices."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from ctp_ldm.data.augment import FLIPPED_AXES, Flips, PublishedAugmentation, move
from ctp_ldm.data.cases import Layout
from ctp_ldm.data.layouts import ISLES24
from ctp_ldm.data.preparation import Settings
from ctp_ldm.data.prepare import prepare
from ctp_ldm.data.quantities import ApparentDiffusion, CTPerfusion, Quantity, RelativeDWI
from ctp_ldm.data.sampling import EvenBatches, LesionAwareSampler, ResumableLoader, WholePatients
from ctp_ldm.data.slices import MOVE, SliceDataset, showings_of
from ctp_ldm.data.splits import RandomSplit, Split, SplitError
from ctp_ldm.data.store import MANIFEST, CaseRecord, SliceStore, StoreError
from ctp_ldm.data.task import Task
from ctp_ldm.geometry import Geometry
from ctp_ldm.sample import Showings
from ctp_ldm.signals import leave_signals_to_the_run
from ctp_ldm.spec import DataSpec

MIN_TRAIN_BRAIN = 0.02


class TranslationDataModule(L.LightningDataModule):
    """Slices of a prepared store, split by patient. A translation task is a subclass that names its channels.

        class T1ToFLAIR(TranslationDataModule):
            sources = {"t1": RobustRange()}
            targets = {"flair": RobustRange()}

    Batches are `Sample`s once they are on the model's device (`on_after_batch_transfer`). `spec` tells a model what the
    numbers mean.

    Args:
        store: folder that `ctp-ldm prepare` wrote.
        spacing: in-plane voxel size of the grid, mm; must be the store's. With it a checkpoint can be applied to NIfTI
            files without the store it was trained on.
        size: in-plane size of the grid (left–right, back–front), voxels; must be the store's.
        slice_thickness: mm that thinner slices are averaged to, unless the MRI's own slices are known, which is then
            theirs; null: slices as they are. Must be the store's.
        sources: role → quantity, where they are others than the class declares. The first one defines grid and brain of
            a case.
        targets: role → quantity, where they are others than the class declares.
        units: role → unit that its files are in, for those whose values do not tell.
        context: neighbouring slices on each side that are channels of the source too (2.5D).
        batch_size: slices per process and step, at most.
        num_workers: loader processes.
        split: who trains, validates and tests.
        lesion_oversampling: how often a training slice with lesion is shown in an epoch, 1 or more.
        augment: true for the published augmentation of training slices, flips and a small affine; "flips" for its flips
            alone, "mirror" for those left–right alone, which are exact; false for none.
        seed: of the order and augmentation of training slices; None for that of `seed_everything`.
        validation_cases: only the first so many validation patients; None for all.
        predict_from: what `predict` runs on: None for the store's test patients, another store for all its patients,
            or a folder of NIfTI cases, which need neither MRI nor lesion mask.
        layout: how to find the cases of a data set.
        frame_interval: seconds between CTP frames, where files do not say.
    """

    sources: Mapping[str, Quantity] = {}
    targets: Mapping[str, Quantity] = {}
    needs_lesion: ClassVar[bool] = False
    """Whether patients without lesion mask are left out of training, validation and test."""

    def __init__(
        self,
        store: str = "store",
        spacing: float = 1.0,
        size: tuple[int, int] = (192, 224),
        slice_thickness: float | None = 5.0,
        sources: dict[str, Quantity] | None = None,
        targets: dict[str, Quantity] | None = None,
        units: dict[str, str] | None = None,
        context: int = 0,
        batch_size: int = 4,
        num_workers: int = 2,
        split: Split = RandomSplit(),
        lesion_oversampling: float = 1.0,
        augment: bool | Literal["flips", "mirror"] = True,
        seed: int | None = None,
        validation_cases: int | None = None,
        predict_from: str | None = None,
        layout: Layout = ISLES24(),
        frame_interval: float | None = None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer patients to predict than processes
        self.sources, self.targets = sources or type(self).sources, targets or type(self).targets
        if not self.sources or not self.targets:
            raise ValueError(
                f"{type(self).__name__} must declare class attributes `sources` and `targets` (role → quantity)"
            )
        if context < 0:
            raise ValueError(f"data.context must be 0 or more neighbouring slices, found {context}")
        if batch_size < 1:
            raise ValueError(f"data.batch_size must be 1 or more slices, found {batch_size}")
        if augment is not True and augment not in FLIPPED_AXES:
            raise ValueError(f"data.augment must be true, false, 'flips' or 'mirror', found {augment!r}")
        self.task = Task(self.sources, self.targets, self.needs_lesion, units or {})
        self.settings = Settings(spacing, (int(size[0]), int(size[1])), slice_thickness, frame_interval)
        self.store_path, self.context = Path(store), context
        self.batch_size, self.num_workers = batch_size, num_workers
        self.split, self.validation_cases = split, validation_cases
        self.lesion_oversampling, self.augment, self.seed = lesion_oversampling, augment, seed
        self.predict_from = Path(predict_from) if predict_from else None
        self.layout = layout
        self.spec: DataSpec = self.settings.spec(self.task).with_context(context)
        self.store: SliceStore | None = None
        self.parts: dict[str, list[str]] = {}

    def settings_for(self, sources_only: bool) -> Settings:
        """How cases are prepared for training, or for prediction alone."""
        return replace(self.settings, sources_only=sources_only)

    def prepare_data(self) -> None:
        """Prepare the NIfTI folder of `predict_from`, in the run's own folder; only prediction needs it.

        Cases with faults are left out and said: one unreadable file must not keep the other patients waiting.

        Raises:
            DataFaults: of every case, where none can be predicted.
        """
        predicting = self.trainer is None or self.trainer.predicting
        if self.predict_from is not None and predicting and self._predicts_nifti():
            settings, workers = self.settings_for(sources_only=True), self.num_workers
            store = self._prediction_store()
            _, faults = prepare(self.predict_from, store, self.task, self.layout, settings, workers, skip_invalid=True)
            for fault in faults:
                print(f"not predicted: {fault}")

    def setup(self, stage: str) -> None:
        """Open the store, refuse one of another spec, and split its patients.

        Raises:
            StoreError: no usable store.
            SpecMismatch: the store was prepared otherwise than this config says.
            SplitError: a part that `stage` needs is empty.
        """
        if stage == "predict" and self.predict_from is not None:
            self._open(self._prediction_store() if self._predicts_nifti() else self.predict_from)
            self.parts = {"predict": sorted(self._records)}
            self._say_remarks("predict")
            return
        self._open(self.store_path)
        complete = sorted(n for n, r in self._records.items() if r.complete(self.needs_lesion))
        self.parts = self.split.assign(complete)
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}[stage]
        empty = [part for part in needed if not self.parts[part]]
        if empty:
            raise SplitError(
                f"no patients for {' and '.join(empty)}: {self.store_path} has {len(complete)} patients with "
                f"all their files (of {len(self._records)}), divided by {self.split}; prepare more or change data.split"
            )
        self.parts["val"] = self.parts["val"][: self.validation_cases]
        self.parts["predict"] = self.parts["test"]
        if stage == "predict":
            self._say_remarks("predict")

    def geometry(self, case: str) -> Geometry:
        """The grid of a case and the way back to its input files."""
        return self._records[case].geometry

    def slices_with_brain(self, case: str) -> int:
        """How many slices of a case are given in validation, test and prediction."""
        return sum(voxels > 0 for voxels in self._records[case].brain_voxels)

    @property
    def flips(self) -> range | None:
        """Numbers of the flips that training slices are shown in; None where they may be moved in other ways too."""
        return None if self.augment is True else Flips(FLIPPED_AXES[self.augment]).numbers

    def showings(self) -> Showings:
        """The targets that training shows, where they can be counted (`flips`)."""
        assert self.store is not None and self.flips is not None  # noqa: PT018
        slices = SliceDataset(self.store, self.parts["train"], MIN_TRAIN_BRAIN, kinds=("target",))
        return showings_of(slices, self.flips, self.batch_size, **self._loading())

    def train_dataloader(self) -> ResumableLoader:
        assert self.store is not None
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed
        if self.augment is True:
            draw: dict[str, Any] = {"draw_move": PublishedAugmentation(self.settings.spacing, self.settings.size, seed)}
        else:
            draw = {"draw_flip": Flips(FLIPPED_AXES[self.augment], seed)}
        # A GPU moves whole batches faster than any loader could; on the CPU the workers share the work out.
        draw["move_here"] = not torch.cuda.is_available()
        slices = SliceDataset(self.store, self.parts["train"], MIN_TRAIN_BRAIN, self.context, **draw)
        rank, processes = self._place()
        if len(slices) < processes:
            raise SplitError(f"the training patients have {len(slices)} slices, fewer than the {processes} processes")
        sampler = LesionAwareSampler(slices.lesion, self.lesion_oversampling, seed)
        batches = EvenBatches(sampler, self.batch_size, rank, processes)
        return ResumableLoader(slices, batch_sampler=batches, **self._loading())

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._whole("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._whole("test")

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._whole("predict")

    def _whole(self, part: str) -> DataLoader[dict[str, Any]]:
        """Whole patients, shared out to the processes.

        With fewer patients than processes some are evaluated twice, and counted once; predictions are written once.
        """
        assert self.store is not None
        rank, processes = self._place()
        cases = self.parts[part][rank::processes]
        if not cases and part != "predict":
            cases = [self.parts[part][rank % len(self.parts[part])]]
        slices = SliceDataset(self.store, cases, context=self.context)
        batches = WholePatients([case for case, _ in slices.index], self.batch_size)
        return DataLoader(slices, batch_sampler=batches, **self._loading())

    def _place(self) -> tuple[int, int]:
        """Rank of this process, and how many there are.

        Raises:
            ValueError: Lightning would shard what is sharded here already.
        """
        if self.trainer is None or self.trainer.world_size == 1:
            return 0, 1
        if self.trainer._accelerator_connector.use_distributed_sampler:
            raise ValueError("set trainer.use_distributed_sampler to false: the DataModule shares slices out itself")
        return self.trainer.global_rank, self.trainer.world_size

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": leave_signals_to_the_run,
        }

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """What the loader gave, on the model's device → a `Sample`: single precision, and moved where it trains."""
        arrays = {k: v.float() for k, v in batch.items() if k in ("source", "target", "brain", "lesion")}
        others = {k: v for k, v in batch.items() if k not in arrays and k != MOVE}
        return {**(move(arrays, batch[MOVE]) if MOVE in batch else arrays), **others}

    @rank_zero_only
    def _say_remarks(self, part: str) -> None:
        """What `check` and `prepare` say of these patients: a prediction may rest on it."""
        for name in self.parts[part]:
            for remark in self._records[name].remarks:
                print(f"{name}: {remark}")

    @property
    def _records(self) -> dict[str, CaseRecord]:
        assert self.store is not None
        return self.store.records

    def _open(self, path: Path) -> None:
        self.store = SliceStore(path)
        self.store.spec.require_same(
            self.settings.spec(self.task),  # the store knows nothing of context
            f"the store {path}",
            f"the config's {type(self).__name__}",
            "set data.spacing, data.size and data.slice_thickness to the store's, or prepare a store for this task",
        )

    def _predicts_nifti(self) -> bool:
        if self.predict_from is None:
            return False
        if not self.predict_from.is_dir():
            raise StoreError(f"data.predict_from: {self.predict_from} is not a folder; expected NIfTI cases or a store")
        return not (self.predict_from / MANIFEST).is_file()

    def _prediction_store(self) -> Path:
        assert self.predict_from is not None
        root = Path(self.trainer.default_root_dir) if self.trainer else Path()
        digest = hashlib.sha256(str(self.predict_from.resolve()).encode()).hexdigest()[:8]
        return root / "prepared" / f"{self.predict_from.name}-{digest}"


class CTPToDiffusionMRI(TranslationDataModule):
    """CT perfusion → DWI and ADC, the task of the paper.

    Sources: the mean before contrast and 15 phases of enhancement (16 channels). Targets: relative DWI, and ADC in
    10⁻⁶ mm²/s. The brain mask comes from the CT alone, because a patient to predict has no MRI.
    """

    sources: Mapping[str, Quantity] = {"ctp": CTPerfusion()}
    targets: Mapping[str, Quantity] = {"dwi": RelativeDWI(), "adc": ApparentDiffusion()}
    needs_lesion: ClassVar[bool] = True
