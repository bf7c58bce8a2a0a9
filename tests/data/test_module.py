"""DataModules: what a batch holds, who is in which part, and which stores are refused."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import lightning as L
import numpy as np
import pytest
import torch

from ctp_ldm.data import (
    CaseFolders,
    CTPToDiffusionMRI,
    KFold,
    Quantity,
    RandomSplit,
    RobustRange,
    Settings,
    SliceStore,
    TranslationDataModule,
    check,
    prepare,
)
from ctp_ldm.data.faults import DataFaults
from ctp_ldm.data.slices import SliceDataset
from ctp_ldm.data.splits import SplitError
from ctp_ldm.data.store import StoreError
from ctp_ldm.sample import Sample
from ctp_ldm.spec import SpecMismatch

from .conftest import CASES
from .files import isles_file, save

NAMES = [f"sub-stroke{i:04d}" for i in range(1, CASES + 1)]
SPLIT = KFold(3, 0)
SIZE = (32, 40)


def _module(store: Path, **changes: object) -> CTPToDiffusionMRI:
    options = {"spacing": 6.0, "size": SIZE, "num_workers": 0, "split": SPLIT, **changes}
    return CTPToDiffusionMRI(str(store), **options)  # type: ignore[arg-type]


def _ready(module: TranslationDataModule, stage: str) -> TranslationDataModule:
    """As a trainer does it."""
    module.prepare_data()
    module.setup(stage)
    return module


def _require_sample(batch: Sample, source: int, target: int | None, size: tuple[int, int] = SIZE) -> None:
    count = len(batch["case"])
    assert batch["source"].shape == (count, source, *size)
    assert batch["brain"].shape == (count, 1, *size)
    arrays = [batch["source"], batch["brain"]]
    if target is None:
        assert set(batch) == {"source", "brain", "case", "slice_index"}
    else:
        assert batch["target"].shape == (count, target, *size)
        assert batch["lesion"].shape == (count, 1, *size)
        arrays += [batch["target"], batch["lesion"]]
        assert set(batch["lesion"].unique().tolist()) <= {0.0, 1.0}
    for array in arrays:
        assert type(array) is torch.Tensor
        assert array.dtype == torch.float32
        assert array.abs().max() <= 1 + 1e-6
    assert set(batch["brain"].unique().tolist()) == {0.0, 1.0}
    assert batch["slice_index"].shape == (count,)
    assert batch["slice_index"].dtype == torch.int64
    assert all(isinstance(name, str) for name in batch["case"])


# ----------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("augment", [True, False])
def test_training_batches_are_full_samples(shared_store: Path, augment: bool) -> None:
    loader = _ready(_module(shared_store, batch_size=3, augment=augment), "fit").train_dataloader()
    batches = list(loader)
    assert len(batches) >= 2
    for batch in batches:
        assert len(batch["case"]) == 3
        _require_sample(batch, 16, 2)


@pytest.mark.parametrize(
    ("stage", "part"), [("fit", "val"), ("validate", "val"), ("test", "test"), ("predict", "test")]
)
def test_evaluation_gives_every_slice_with_brain_once_in_order_and_unchanged(
    shared_store: Path, stage: str, part: str
) -> None:
    module = _ready(_module(shared_store, batch_size=4), stage)
    loader = {"fit": module.val_dataloader, "validate": module.val_dataloader}.get(
        stage, module.test_dataloader if stage == "test" else module.predict_dataloader
    )()
    store, given = SliceStore(shared_store), []
    for batch in loader:
        _require_sample(batch, 16, 2)
        for i, (name, z) in enumerate(zip(batch["case"], batch["slice_index"].tolist(), strict=True)):
            given.append((name, z))
            for kind in ("source", "target"):
                np.testing.assert_array_equal(batch[kind][i], store.array(name, kind)[z].astype(np.float32))
            np.testing.assert_array_equal(batch["brain"][i, 0], store.array(name, "brain")[z])
    with_brain = [(name, z) for name in module.parts[part] for z in range(6) if store.array(name, "brain")[z].any()]
    assert given == with_brain
    assert len(given) == sum(module.slices_with_brain(name) for name in module.parts[part])


def test_training_leaves_out_slices_with_little_brain(store: Path) -> None:
    opened = SliceStore(store)
    least = min(n for name in NAMES for n in opened.records[name].brain_voxels)
    share = (least + 0.5) / (SIZE[0] * SIZE[1])
    every, large = (SliceDataset(opened, NAMES, minimum) for minimum in (0.0, share))
    assert len(large) == len(every) - 1
    assert all(sample["brain"].sum() > least for sample in (large[i] for i in range(len(large))))


def test_a_worker_process_gives_the_same_slices(shared_store: Path) -> None:
    alone, worker = (
        list(_ready(_module(shared_store, batch_size=6, num_workers=n), "test").test_dataloader()) for n in (0, 1)
    )
    assert [batch["case"] for batch in worker] == [batch["case"] for batch in alone]
    assert all(torch.equal(a["source"], b["source"]) for a, b in zip(alone, worker, strict=True))


def test_the_seed_decides_order_and_augmentation(shared_store: Path) -> None:
    def batches(seed: int) -> torch.Tensor:
        L.seed_everything(seed, verbose=False)
        loader = _ready(_module(shared_store, batch_size=4), "fit").train_dataloader()
        return torch.cat([batch["source"] for batch in loader])

    assert torch.equal(batches(1), batches(1))
    assert not torch.equal(batches(1), batches(2))


def test_target_and_lesion_are_absent_where_any_case_lacks_them(tree: Path, tmp_path: Path) -> None:
    isles_file(tree, 2, "adc").unlink()
    isles_file(tree, 3, "lesion-msk").unlink()
    task = CTPToDiffusionMRI.task()
    store, _ = prepare(
        tree,
        tmp_path / "store",
        task,
        _module(tmp_path).layout,
        Settings(6.0, SIZE, sources_only=True),
        workers=1,
    )
    kinds = {case: set(SliceDataset(store, [NAMES[0], case])[0]) for case in NAMES[1:4]}
    always = {"source", "brain", "case", "slice_index"}
    assert kinds == {
        NAMES[1]: always | {"lesion"},
        NAMES[2]: always | {"target"},
        NAMES[3]: always | {"target", "lesion"},
    }


# ------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("split", [KFold(3, 1), RandomSplit(0.2, 0.2), RandomSplit(0.2, 0.2, seed=5)], ids=str)
def test_no_patient_is_in_two_parts(shared_store: Path, split: object) -> None:
    module = _ready(_module(shared_store, split=split, batch_size=2), "fit")
    shown = {
        part: {name for batch in loader for name in batch["case"]}
        for part, loader in (
            ("train", module.train_dataloader()),
            ("val", module.val_dataloader()),
            ("test", module.test_dataloader()),
        )
    }
    assert shown["train"] | shown["val"] | shown["test"] == set(NAMES)
    assert sum(map(len, shown.values())) == CASES


def test_stages_agree_on_the_parts(shared_store: Path) -> None:
    parts = [_ready(_module(shared_store), stage).parts for stage in ("fit", "validate", "test")]
    assert parts[0] == parts[1] == parts[2]


def test_validation_may_be_limited(shared_store: Path) -> None:
    whole, one = (_ready(_module(shared_store, validation_cases=n), "fit").parts for n in (None, 1))
    assert len(whole["val"]) == 2
    assert one["val"] == whole["val"][:1]
    assert one["train"] == whole["train"]


@pytest.mark.parametrize(
    ("stage", "split", "part"),
    [
        ("fit", RandomSplit(val=0.0), "val"),
        ("validate", RandomSplit(val=0.0), "val"),
        ("test", RandomSplit(test=0.0), "test"),
        ("predict", RandomSplit(test=0.0), "test"),
        ("fit", RandomSplit(val=0.45, test=0.54), "train"),
    ],
)
def test_an_empty_part_is_refused(shared_store: Path, stage: str, split: RandomSplit, part: str) -> None:
    with pytest.raises(SplitError, match=f"no patients for {part}: .* 6 patients with all their files"):
        _ready(_module(shared_store, split=split), stage)


def test_patients_without_mri_are_in_no_part(tree: Path, tmp_path: Path) -> None:
    isles_file(tree, 2, "dwi").unlink()
    prepare(
        tree,
        tmp_path / "store",
        CTPToDiffusionMRI.task(),
        _module(tmp_path).layout,
        Settings(6.0, SIZE, sources_only=True),
        workers=1,
    )
    parts = _ready(_module(tmp_path / "store"), "fit").parts
    assert {name for part in ("train", "val", "test") for name in parts[part]} == set(NAMES) - {NAMES[1]}


def test_a_batch_larger_than_the_training_set_is_refused(shared_store: Path) -> None:
    with pytest.raises(SplitError, match="fewer than batch_size 500"):
        _ready(_module(shared_store, batch_size=500), "fit").train_dataloader()


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"spacing": 5.5}, "spacing: 6.0 ≠ 5.5"), ({"size": (40, 40)}, r"size: \[32, 40\] ≠ \[40, 40\]")],
)
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_a_store_of_another_grid_is_refused_with_both_values(
    shared_store: Path, changes: dict[str, object], named: str, stage: str
) -> None:
    with pytest.raises(SpecMismatch, match=named):
        _ready(_module(shared_store, **changes), stage)


def test_a_store_of_another_task_is_refused(shared_store: Path) -> None:
    module = TwoContrastsToFLAIR(str(shared_store), 6.0, SIZE, split=SPLIT)
    with pytest.raises(SpecMismatch, match=r"source channels.*\n.*target channels: \['dwi', 'adc'\] ≠ \['flair'\]"):
        _ready(module, "fit")


def test_a_missing_store_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="ctp-ldm prepare"):
        _ready(_module(tmp_path / "nowhere"), "fit")


def test_a_module_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="TranslationDataModule must declare"):
        TranslationDataModule()


# -------------------------------------------------------------------------------------------------------- prediction


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Predictions are prepared in the run's folder, which without a trainer is the current one."""
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def test_nifti_cases_without_mri_are_predicted_and_their_folder_left_alone(tree: Path, elsewhere: Path) -> None:
    for path in tree.glob("derivatives/*/ses-02"):
        shutil.rmtree(path)
    before = sorted(tree.rglob("*"))
    module = _module(elsewhere / "no-store", predict_from=str(tree), batch_size=5)
    names = []
    for batch in _ready(module, "predict").predict_dataloader():
        _require_sample(batch, 16, None)
        names += batch["case"]
    assert sorted(set(names)) == NAMES
    assert sorted(tree.rglob("*")) == before
    assert module.geometry(NAMES[2]).size == SIZE
    assert len(list(elsewhere.glob("prepared/phantom-*/manifest.json"))) == 1


def test_sources_of_predicted_nifti_cases_are_those_of_the_store(
    shared_tree: Path, shared_store: Path, elsewhere: Path
) -> None:
    module = _ready(_module(shared_store, predict_from=str(shared_tree)), "predict")
    assert module.store is not None
    assert module.store.path != shared_store
    for name in NAMES:
        np.testing.assert_array_equal(
            module.store.array(name, "source"), SliceStore(shared_store).array(name, "source")
        )
        assert module.geometry(name) == SliceStore(shared_store).records[name].geometry


def test_another_store_is_predicted_whole(shared_store: Path, elsewhere: Path) -> None:
    module = _ready(_module(elsewhere / "no-store", predict_from=str(shared_store)), "predict")
    names = {name for batch in module.predict_dataloader() for name in batch["case"]}
    assert sorted(names) == NAMES
    assert not (elsewhere / "prepared").exists()


def test_without_a_choice_the_test_patients_are_predicted(shared_store: Path) -> None:
    module = _ready(_module(shared_store), "predict")
    assert module.parts["predict"] == SPLIT.assign(NAMES)["test"]


def test_a_store_of_another_grid_is_not_predicted(shared_store: Path) -> None:
    with pytest.raises(SpecMismatch, match="spacing"):
        _ready(_module(shared_store, spacing=5.0, predict_from=str(shared_store)), "predict")


def test_faults_of_cases_to_predict_are_told(tree: Path, elsewhere: Path) -> None:
    isles_file(tree, 4, "ctp").write_bytes(b"")
    with pytest.raises(DataFaults, match=r"sub-stroke0004.*ctp\.nii\.gz cannot be read"):
        _ready(_module(elsewhere, predict_from=str(tree)), "predict")


def test_a_missing_folder_to_predict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"predict_from: .*nowhere is not a folder"):
        _ready(_module(tmp_path, predict_from=str(tmp_path / "nowhere")), "predict")


# ------------------------------------------------------------------------------------------------------- another task


class TwoContrastsToFLAIR(TranslationDataModule):
    """What a user writes for a task of their own."""

    sources: ClassVar[Mapping[str, Quantity]] = {"t1": RobustRange(), "t2": RobustRange(0.0, 1.0)}
    targets: ClassVar[Mapping[str, Quantity]] = {"flair": RobustRange()}


@pytest.fixture
def contrasts(tmp_path: Path) -> Path:
    """Four patients as case folders: an ellipsoid in three contrasts of arbitrary scale."""
    rng = np.random.default_rng(0)
    x, y, z = np.ogrid[-20:20, -24:24, -3:3]
    head = (x / 15) ** 2 + (y / 19) ** 2 + (z / 8) ** 2 < 1
    lesion = head & ((x - 5) ** 2 + (y - 4) ** 2 + (3 * z) ** 2 < 30)
    for i in range(4):
        for role, gain in (("t1", 1000.0), ("t2", 3.0), ("flair", 0.02)):
            values = head * gain * (1 + 0.2 * rng.random(head.shape)) * np.where(lesion, 1.5, 1)
            save(tmp_path / "cases" / f"p{i}" / f"{role}.nii.gz", values.astype(np.float32))
        save(tmp_path / "cases" / f"p{i}" / "lesion.nii.gz", lesion.astype(np.uint8))
    return tmp_path / "cases"


def test_a_task_of_the_users_own_goes_from_files_to_batches(contrasts: Path, tmp_path: Path) -> None:
    task, settings = TwoContrastsToFLAIR.task(), Settings(2.0, (36, 44))
    assert check(contrasts, task, CaseFolders(), settings, workers=1) == ["p0", "p1", "p2", "p3"]
    prepare(contrasts, tmp_path / "store", task, CaseFolders(), settings, workers=1)
    module = TwoContrastsToFLAIR(
        str(tmp_path / "store"), 2.0, (36, 44), batch_size=2, num_workers=0, split=RandomSplit(0.25, 0.25)
    )
    assert [c.name for c in module.spec.source] == ["t1", "t2"]
    assert module.spec.target_names == ["flair"]
    _ready(module, "fit")
    for batch in module.train_dataloader():
        _require_sample(batch, 2, 1, (36, 44))

    module.batch_size = 6
    (batch,) = module.val_dataloader()
    flair = module.spec.decode_target(batch["target"])
    inside, lesion = batch["brain"] > 0, batch["lesion"] > 0
    assert flair[inside & ~lesion].mean() < 0.5 < flair[lesion].mean()
    assert (flair[~inside] == 0).all()


def test_a_task_of_the_users_own_predicts_without_its_target(contrasts: Path, elsewhere: Path) -> None:
    for path in (*contrasts.glob("*/flair.nii.gz"), *contrasts.glob("*/lesion.nii.gz")):
        path.unlink()
    module = TwoContrastsToFLAIR(
        spacing=2.0, size=(36, 44), num_workers=0, predict_from=str(contrasts), layout=CaseFolders()
    )
    for batch in _ready(module, "predict").predict_dataloader():
        _require_sample(batch, 2, None, (36, 44))
    assert module.parts["predict"] == ["p0", "p1", "p2", "p3"]
