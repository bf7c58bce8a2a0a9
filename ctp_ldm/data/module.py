"""DataModules: the base that reads a slice store, and the task of the paper."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import lightning as L
import nibabel as nib
import numpy as np
import torch
from torch.utils.data import DataLoader

from ctp_ldm.data.augment import PublishedAugmentation
from ctp_ldm.data.brain import ct_brain_mask, foreground_mask
from ctp_ldm.data.cases import ISLES24, Layout
from ctp_ldm.data.phases import precontrast
from ctp_ldm.data.preparation import Settings
from ctp_ldm.data.prepare import prepare
from ctp_ldm.data.quantities import ApparentDiffusion, CTPerfusion, Quantity, RelativeDWI
from ctp_ldm.data.slices import SliceDataset
from ctp_ldm.data.splits import RandomSplit, Split, SplitError
from ctp_ldm.data.store import MANIFEST, CaseRecord, SliceStore, StoreError
from ctp_ldm.data.task import Task
from ctp_ldm.data.volumes import Volume
from ctp_ldm.geometry import Geometry
from ctp_ldm.spec import DataSpec

MIN_TRAIN_BRAIN = 0.02


class TranslationDataModule(L.LightningDataModule):
    """Slices of a prepared store, split by patient. A translation task is a subclass that names its channels.

        class T1ToFLAIR(TranslationDataModule):
            sources = {"t1": RobustRange()}
            targets = {"flair": RobustRange()}

    Batches are `Sample`s. `spec` tells a model what the numbers mean.

    Args:
        store: folder that `ctp-ldm prepare` wrote.
        spacing, size: the in-plane grid, which must be the store's; with them a checkpoint can be applied to NIfTI
            files without the store it was trained on.
        batch_size: slices per process and step.
        num_workers: loader processes.
        split: who trains, validates and tests.
        augment: whether training slices get the published augmentation.
        validation_cases: only the first so many validation patients; None for all.
        predict_from: what `predict` runs on: None for the store's test patients, another store for all its patients,
            or a folder of NIfTI cases, which need neither MRI nor lesion mask.
        layout: how to find the cases of such a folder.
        frame_interval: seconds between CTP frames, for such a folder when its files do not say.
    """

    sources: ClassVar[Mapping[str, Quantity]] = {}
    targets: ClassVar[Mapping[str, Quantity]] = {}
    needs_lesion: ClassVar[bool] = False
    """Whether patients without lesion mask are left out of training, validation and test."""

    def __init__(
        self,
        store: str = "store",
        spacing: float = 1.0,
        size: tuple[int, int] = (192, 224),
        batch_size: int = 4,
        num_workers: int = 2,
        split: Split = RandomSplit(),
        augment: bool = True,
        validation_cases: int | None = None,
        predict_from: str | None = None,
        layout: Layout = ISLES24(),
        frame_interval: float | None = None,
    ) -> None:
        super().__init__()
        self.store_path = Path(store)
        self.settings = Settings(spacing, (int(size[0]), int(size[1])), frame_interval, sources_only=True)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.split, self.augment, self.validation_cases = split, augment, validation_cases
        self.predict_from = Path(predict_from) if predict_from else None
        self.layout = layout
        self.spec: DataSpec = self.task().spec(spacing, self.settings.size)
        self.store: SliceStore | None = None
        self.parts: dict[str, list[str]] = {}

    @classmethod
    def brain_mask(cls, volumes: Mapping[str, Volume]) -> np.ndarray:
        """(X, Y, Z) bool from the volumes of a case that brings no mask; the foreground of the first source."""
        values = volumes[next(iter(cls.sources))].values
        return foreground_mask(values if values.ndim == 3 else values.mean(axis=-1))

    @classmethod
    def task(cls) -> Task:
        """The task that the class declares.

        Raises:
            ValueError: sources or targets are not declared.
        """
        if not cls.sources or not cls.targets:
            raise ValueError(f"{cls.__name__} must declare class attributes `sources` and `targets` (role → quantity)")
        return Task(cls.sources, cls.targets, cls.brain_mask, cls.needs_lesion)

    def prepare_data(self) -> None:
        """Prepare the NIfTI folder of `predict_from`, in the run's own folder; only prediction needs it."""
        predicting = self.trainer is None or self.trainer.predicting
        if self.predict_from is not None and predicting and self._predicts_nifti():
            prepare(self.predict_from, self._prediction_store(), self.task(), self.layout, self.settings, workers=1)

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

    def geometry(self, case: str) -> Geometry:
        """The grid of a case and the way back to its input files."""
        return self._records[case].geometry

    def slices_with_brain(self, case: str) -> int:
        """How many slices of a case are given in validation, test and prediction."""
        return sum(voxels > 0 for voxels in self._records[case].brain_voxels)

    def train_dataloader(self) -> DataLoader[dict[str, object]]:
        assert self.store is not None
        augmentation = PublishedAugmentation(self.settings.spacing) if self.augment else None
        slices = SliceDataset(self.store, self.parts["train"], MIN_TRAIN_BRAIN, augmentation)
        if len(slices) < self.batch_size:
            raise SplitError(
                f"the training patients have {len(slices)} slices, fewer than batch_size {self.batch_size}: lower it"
            )
        return self._loader(slices, shuffle=True)

    def val_dataloader(self) -> DataLoader[dict[str, object]]:
        return self._whole("val")

    def test_dataloader(self) -> DataLoader[dict[str, object]]:
        return self._whole("test")

    def predict_dataloader(self) -> DataLoader[dict[str, object]]:
        return self._whole("predict")

    def _whole(self, part: str) -> DataLoader[dict[str, object]]:
        assert self.store is not None
        return self._loader(SliceDataset(self.store, self.parts[part]), shuffle=False)

    def _loader(self, slices: SliceDataset, shuffle: bool) -> DataLoader[dict[str, object]]:
        return DataLoader(
            slices,
            batch_size=self.batch_size,
            shuffle=shuffle,
            drop_last=shuffle,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    @property
    def _records(self) -> dict[str, CaseRecord]:
        assert self.store is not None
        return self.store.records

    def _open(self, path: Path) -> None:
        self.store = SliceStore(path)
        self.store.spec.require_same(
            self.spec,
            f"the store {path}",
            f"the config's {type(self).__name__}",
            "set data.spacing and data.size to the store's, or prepare a store for this task",
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

    sources: ClassVar[Mapping[str, Quantity]] = {"ctp": CTPerfusion(phases=15)}
    targets: ClassVar[Mapping[str, Quantity]] = {"dwi": RelativeDWI(), "adc": ApparentDiffusion()}
    needs_lesion: ClassVar[bool] = True

    @classmethod
    def brain_mask(cls, volumes: Mapping[str, Volume]) -> np.ndarray:
        """By HU and connected components, from the mean of the frames before contrast."""
        ctp = volumes["ctp"]
        assert ctp.times is not None
        before = precontrast(ctp.values, ctp.times, CTPerfusion().baseline)
        return ct_brain_mask(before, nib.affines.voxel_sizes(ctp.affine))
