"""DataModules: what a batch holds, who is in which part, and which stores are refused."""

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import lightning as L
import nibabel as nib
import numpy as np
import pytest
import torch

from ctp_ldm.data import (
    ApparentDiffusion,
    CaseFolders,
    CTPToDiffusionMRI,
    KFold,
    NonContrastCT,
    Quantity,
    RandomSplit,
    RelativeDWI,
    RobustRange,
    Settings,
    SliceStore,
    TranslationDataModule,
    check,
    prepare,
)
from ctp_ldm.data.augment import move
from ctp_ldm.data.faults import DataFaults
from ctp_ldm.data.module import MIN_TRAIN_BRAIN
from ctp_ldm.data.slices import SliceDataset
from ctp_ldm.data.splits import SplitError
from ctp_ldm.data.store import StoreError
from ctp_ldm.sample import Sample
from ctp_ldm.spec import SpecMismatch

from .conftest import CASES
from .files import isles_file, rewrite, save

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


def _samples(module: TranslationDataModule, loader: Iterable[dict[str, Any]]) -> Iterator[Sample]:
    """As a trainer does it, too: what the loader gives is made a sample on the model's device."""
    for batch in loader:
        yield module.on_after_batch_transfer(batch, 0)  # type: ignore[misc]


def _shown(loader: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(name, z) for batch in loader for name, z in zip(batch["case"], batch["slice_index"].tolist(), strict=True)]


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


@pytest.mark.parametrize("augment", [True, False, "mirror", "flips"])
@pytest.mark.parametrize("batch_size", [3, 5, 500])
def test_an_epoch_shows_every_training_slice_once_in_full_samples(
    shared_store: Path, augment: bool | str, batch_size: int
) -> None:
    module = _ready(_module(shared_store, batch_size=batch_size, augment=augment), "fit")
    loader = module.train_dataloader()
    batches = list(_samples(module, loader))
    sizes = [len(batch["case"]) for batch in batches]
    assert len(loader) == len(batches)
    assert max(sizes) <= min(batch_size, min(sizes) + 1)
    for batch in batches:
        _require_sample(batch, 16, 2)
    expected = sorted(SliceDataset(SliceStore(shared_store), module.parts["train"], MIN_TRAIN_BRAIN).index)
    assert sorted(_shown(batches)) == expected
    assert _shown(batches) != expected


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.5])
def test_slices_with_lesion_are_shown_as_often_as_asked(shared_store: Path, factor: float) -> None:
    split = RandomSplit(0.17, 0.17)
    module = _ready(_module(shared_store, lesion_oversampling=factor, batch_size=4, split=split), "fit")
    store, shown = SliceStore(shared_store), Counter(_shown(module.train_dataloader()))
    with_lesion = [n for (name, z), n in shown.items() if store.read(name, "lesion")[z].any()]
    assert len(with_lesion) >= 2
    assert abs(sum(with_lesion) - factor * len(with_lesion)) <= 0.5  # to the nearest whole number, halves either way
    assert {n for (name, z), n in shown.items() if not store.read(name, "lesion")[z].any()} == {1}


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
    for batch in _samples(module, loader):
        _require_sample(batch, 16, 2)
        for i, (name, z) in enumerate(zip(batch["case"], batch["slice_index"].tolist(), strict=True)):
            given.append((name, z))
            for kind in ("source", "target"):
                np.testing.assert_array_equal(batch[kind][i], store.read(name, kind)[z].astype(np.float32))
            np.testing.assert_array_equal(batch["brain"][i, 0], store.read(name, "brain")[z])
    with_brain = [(name, z) for name in module.parts[part] for z in range(6) if store.read(name, "brain")[z].any()]
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


@pytest.mark.parametrize("given", [True, False], ids=["data.seed", "seed_everything"])
def test_the_seed_decides_order_and_augmentation(shared_store: Path, given: bool) -> None:
    def batches(seed: int, workers: int = 0) -> torch.Tensor:
        L.seed_everything(0 if given else seed, verbose=False)
        changes = {"seed": seed} if given else {}
        module = _ready(_module(shared_store, batch_size=4, num_workers=workers, **changes), "fit")
        return torch.cat([batch["source"] for batch in _samples(module, module.train_dataloader())])

    assert torch.equal(batches(1), batches(1))
    assert torch.equal(batches(1), batches(1, workers=2))
    assert not torch.equal(batches(1), batches(2))


def test_a_slice_is_moved_otherwise_each_time_it_is_shown(shared_store: Path) -> None:
    module = _ready(_module(shared_store, lesion_oversampling=3.0, batch_size=4), "fit")
    loader, moves = module.train_dataloader(), {}
    loader.dataset.move_here = False
    for epoch in range(2):
        loader.batch_sampler.sampler.set_epoch(epoch)
        for batch in loader:
            for place, theta in zip(_shown([batch]), batch["move"], strict=True):
                moves.setdefault(place, []).append(tuple(theta.ravel().tolist()))
    assert {len(shown) for shown in moves.values()} == {2, 6}
    # A tenth of the moves are flips only, of which there are four.
    assert sum(len(set(shown)) for shown in moves.values()) > 0.9 * sum(map(len, moves.values()))


@pytest.mark.parametrize("context", [0, 2])
def test_a_slice_is_moved_in_the_loader_as_on_the_device(shared_store: Path, context: int) -> None:
    """At the ends of the brain the neighbours in a 2.5D source are larger than the slice."""
    module = _ready(_module(shared_store, batch_size=500, context=context), "fit")
    loader = module.train_dataloader()
    loader.dataset.move_here = True  # as it is by itself where there is no GPU
    (here,) = loader
    loader.dataset.move_here = False
    (there,) = (module.on_after_batch_transfer(batch, 0) for batch in loader)
    assert _shown([here]) == _shown([there])
    for kind in ("source", "target", "brain", "lesion"):
        torch.testing.assert_close(here[kind], there[kind], atol=1e-4, rtol=0)


def test_the_model_sees_the_slices_moved_as_they_were_drawn(shared_store: Path) -> None:
    module = _ready(_module(shared_store, batch_size=5), "fit")
    loader = module.train_dataloader()
    loader.dataset.move_here = True  # as it is by itself where there is no GPU
    moved_here = next(iter(loader))
    loader.dataset.move_here = False
    store, batch = SliceStore(shared_store), next(iter(loader))
    assert batch["source"].dtype == torch.float16
    sample = module.on_after_batch_transfer(dict(batch), 0)
    assert set(batch) - set(sample) == {"move"}
    assert _shown([moved_here]) == _shown([batch])
    for kind in ("source", "target", "brain", "lesion"):
        arrays = [np.array(store.read(name, kind)[z], np.float32) for name, z in _shown([batch])]
        plain = torch.from_numpy(np.stack(arrays)).reshape(sample[kind].shape)
        assert torch.equal(sample[kind], move({kind: plain}, batch["move"])[kind])
        # In the loader only the brain's surroundings are interpolated, to the same picture.
        torch.testing.assert_close(moved_here[kind], sample[kind], atol=1e-4, rtol=0)
        assert kind == "lesion" or not torch.equal(sample[kind], plain)


def _reversed(values: np.ndarray, number: int) -> np.ndarray:
    """(…, H, W), bit 0 of the number along H, bit 1 along W."""
    values = values[..., ::-1, :] if number in (1, 3) else values
    return values[..., ::-1] if number in (2, 3) else values


@pytest.mark.parametrize(("augment", "variants"), [(False, {0}), ("mirror", {0, 1}), ("flips", {0, 1, 2, 3})])
@pytest.mark.parametrize("context", [0, 1])
def test_slices_that_are_only_flipped_are_so_exactly(
    shared_store: Path, augment: bool | str, variants: set[int], context: int
) -> None:
    split = RandomSplit(0.17, 0.17)
    changes = {"augment": augment, "context": context, "split": split, "lesion_oversampling": 3.0}
    module = _ready(_module(shared_store, batch_size=4, **changes), "fit")
    store, flips = SliceStore(shared_store), []
    for batch in _samples(module, module.train_dataloader()):
        for i, ((name, z), number) in enumerate(zip(_shown([batch]), batch["flip"].tolist(), strict=True)):
            flips.append(number)
            for kind in ("source", "target", "brain", "lesion"):
                stored = store.read(name, kind).astype(np.float32)
                neighbours = np.clip(np.arange(z - context, z + context + 1), 0, len(stored) - 1)
                plain = stored[neighbours if kind == "source" else [z]].reshape(batch[kind][i].shape)
                np.testing.assert_array_equal(batch[kind][i], _reversed(plain, number))
    assert set(flips) == variants


def test_all_that_training_can_show_is_counted_where_slices_are_only_flipped(shared_store: Path) -> None:
    digests = set()
    for augment, variants in ((False, 1), ("mirror", 2), ("flips", 4)):
        module = _ready(_module(shared_store, batch_size=5, augment=augment), "fit")
        showings, store = module.showings(), SliceStore(shared_store)
        slices = sorted(_shown(module.train_dataloader()))
        assert sorted(showings.keys) == [(name, z, flip) for name, z in slices for flip in range(variants)]
        targets = torch.cat([batch["target"] for batch in showings.batches])
        for target, (name, z, flip) in zip(targets, showings.keys, strict=True):
            np.testing.assert_array_equal(target, _reversed(store.read(name, "target")[z], flip))
        digests.add(showings.digest)
    other = _ready(_module(shared_store, augment="flips", split=KFold(3, 1)), "fit")
    assert len({*digests, other.showings().digest}) == 4
    assert _module(shared_store, augment=True).flips is None


def test_an_unknown_augmentation_is_refused(shared_store: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.augment must be true, false, 'flips' or 'mirror', found 'flip'"):
        _module(shared_store, augment="flip")


def test_target_and_lesion_are_absent_where_any_case_lacks_them(tree: Path, tmp_path: Path) -> None:
    isles_file(tree, 2, "adc").unlink()
    isles_file(tree, 3, "lesion-msk").unlink()
    task = CTPToDiffusionMRI().task
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


# ----------------------------------------------------------------------------------------------------------- context


@pytest.mark.parametrize("context", [1, 2])
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_context_is_the_neighbouring_slices_from_below_to_above(shared_store: Path, context: int, stage: str) -> None:
    module = _ready(_module(shared_store, context=context, augment=False), stage)
    store, shown = SliceStore(shared_store), []
    for batch in _samples(module, module.train_dataloader() if stage == "fit" else module.test_dataloader()):
        _require_sample(batch, 16 * (1 + 2 * context), 2)
        for source, target, (name, z) in zip(batch["source"], batch["target"], _shown([batch]), strict=True):
            volume = store.read(name, "source").astype(np.float32)
            # Beyond the first and last slice these are repeated.
            neighbours = np.clip(np.arange(z - context, z + context + 1), 0, len(volume) - 1)
            np.testing.assert_array_equal(source, volume[neighbours].reshape(source.shape))
            np.testing.assert_array_equal(target, store.read(name, "target")[z].astype(np.float32))
            shown.append((z, len(volume)))
    assert {0, 1} <= {z for z, _ in shown}
    assert any(z == depth - 1 for z, depth in shown)


def test_the_spec_names_each_channel_by_its_slice(shared_store: Path) -> None:
    plain, wide = (_module(shared_store, context=n).spec for n in (0, 2))
    for i, offset in enumerate(("@-2", "@-1", "", "@+1", "@+2")):
        named = [(f"{channel.name}{offset}", channel.scaling) for channel in plain.source]
        assert [(c.name, c.scaling) for c in wide.source[16 * i : 16 * (i + 1)]] == named
    assert wide.target == plain.target
    assert _module(shared_store, context=1).task.spec(6.0, SIZE) == plain


def test_context_moves_with_its_slice(shared_store: Path) -> None:
    module = _ready(_module(shared_store, context=1, batch_size=4, split=RandomSplit(0.17, 0.17)), "fit")
    batch = next(iter(module.train_dataloader()))
    whole = module.on_after_batch_transfer(dict(batch), 0)["source"]
    for i in range(3):
        part = {**batch, "source": batch["source"][:, 16 * i : 16 * (i + 1)]}
        assert torch.equal(module.on_after_batch_transfer(part, 0)["source"], whole[:, 16 * i : 16 * (i + 1)])


def test_negative_context_is_refused(shared_store: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.context must be 0 or more neighbouring slices, found -1"):
        _module(shared_store, context=-1)


# --------------------------------------------------------------------------------------------------------- processes


def _process(store: Path, rank: int, processes: int, sharded_by_lightning: bool = False, **changes: object) -> Any:
    """A module as it is in one of several processes."""
    module = _module(store, **changes)
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=rank,
        world_size=processes,
        predicting=False,
        _accelerator_connector=SimpleNamespace(use_distributed_sampler=sharded_by_lightning),
    )
    return _ready(module, "fit")


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_processes_share_out_the_training_slices(shared_store: Path, processes: int, batch_size: int) -> None:
    everything = _shown(_ready(_module(shared_store), "fit").train_dataloader())
    loaders = [
        _process(shared_store, rank, processes, batch_size=batch_size).train_dataloader() for rank in range(processes)
    ]
    shares = [list(loader) for loader in loaders]
    assert sorted(place for share in shares for place in _shown(share)) == sorted(everything)
    assert len({len(share) for share in shares} | {len(loader) for loader in loaders}) == 1


def test_processes_share_out_whole_patients_to_validate(shared_store: Path) -> None:
    split = RandomSplit(0.67, 0.16)
    names = _process(shared_store, 0, 1, split=split).parts["val"]
    assert len(names) == 4
    shares = [
        {name for name, _ in _shown(_process(shared_store, rank, 3, split=split).val_dataloader())} for rank in range(3)
    ]
    assert sorted(name for share in shares for name in share) == sorted(names)


def test_a_process_without_a_patient_of_its_own_gets_one_again(shared_store: Path) -> None:
    names = _process(shared_store, 0, 1).parts["val"]
    assert len(names) == 2
    for rank in range(5):
        assert {n for n, _ in _shown(_process(shared_store, rank, 5).val_dataloader())} == {names[rank % 2]}


def test_fewer_slices_than_processes_are_refused(shared_store: Path) -> None:
    slices = len(_ready(_module(shared_store), "fit").train_dataloader().dataset)
    assert len(_process(shared_store, 0, slices, batch_size=1).train_dataloader()) == 1
    with pytest.raises(SplitError, match=rf"have {slices} slices, fewer than the {slices + 1} processes"):
        _process(shared_store, 0, slices + 1).train_dataloader()


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_lightning_may_not_share_out_what_is_shared_out_already(shared_store: Path, loader: str) -> None:
    with pytest.raises(ValueError, match=r"set trainer\.use_distributed_sampler to false"):
        getattr(_process(shared_store, 0, 2, sharded_by_lightning=True), loader)()
    assert len(getattr(_process(shared_store, 0, 1, sharded_by_lightning=True), loader)()) > 0


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
        CTPToDiffusionMRI().task,
        _module(tmp_path).layout,
        Settings(6.0, SIZE, sources_only=True),
        workers=1,
    )
    parts = _ready(_module(tmp_path / "store"), "fit").parts
    assert {name for part in ("train", "val", "test") for name in parts[part]} == set(NAMES) - {NAMES[1]}


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


@pytest.mark.parametrize("size", [0, -4])
def test_batches_of_no_slices_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"data\.batch_size must be 1 or more slices, found {size}"):
        CTPToDiffusionMRI(batch_size=size)


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
    for batch in _samples(module, _ready(module, "predict").predict_dataloader()):
        _require_sample(batch, 16, None)
        names += batch["case"]
    assert sorted(set(names)) == NAMES
    assert sorted(tree.rglob("*")) == before
    assert module.geometry(NAMES[2]).size == SIZE
    assert len(list(elsewhere.glob("prepared/phantom-*/manifest.json"))) == 1


def test_what_is_odd_about_a_patient_is_said_before_the_prediction(
    tree: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words of `check`, from NIfTI files and from a store of them."""
    path = isles_file(tree, 2, "ctp")
    values = np.asarray(nib.Nifti1Image.from_filename(path).dataobj).copy()
    values[..., 5] = 0
    rewrite(path, values)
    said = f"{NAMES[1]}: ctp: frames 6 (all slices) hold no image and are left out"
    module = _ready(_module(elsewhere / "no-store", predict_from=str(tree)), "predict")
    assert said in capsys.readouterr().out
    assert module.store is not None
    _ready(_module(elsewhere / "no-store", predict_from=str(module.store.path)), "predict")
    assert said in capsys.readouterr().out


def test_sources_of_predicted_nifti_cases_are_those_of_the_store(
    shared_tree: Path, shared_store: Path, elsewhere: Path
) -> None:
    module = _ready(_module(shared_store, predict_from=str(shared_tree)), "predict")
    assert module.store is not None
    assert module.store.path != shared_store
    for name in NAMES:
        np.testing.assert_array_equal(module.store.read(name, "source"), SliceStore(shared_store).read(name, "source"))
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


def test_a_faulty_case_to_predict_is_said_and_the_others_are_predicted(
    tree: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    isles_file(tree, 4, "ctp").write_bytes(b"")
    module = _ready(_module(elsewhere, predict_from=str(tree)), "predict")
    assert module.parts["predict"] == [name for name in NAMES if name != "sub-stroke0004"]
    assert re.search(r"not predicted: sub-stroke0004.*ctp\.nii\.gz cannot be read", capsys.readouterr().out)


def test_without_any_case_to_predict_all_faults_are_told(tree: Path, elsewhere: Path) -> None:
    for index in range(1, len(NAMES) + 1):
        isles_file(tree, index, "ctp").write_bytes(b"")
    with pytest.raises(DataFaults, match=rf"{len(NAMES)} fault") as refused:
        _ready(_module(elsewhere, predict_from=str(tree)), "predict")
    assert "--skip-invalid" not in str(refused.value)


def test_a_missing_folder_to_predict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"predict_from: .*nowhere is not a folder"):
        _ready(_module(tmp_path, predict_from=str(tmp_path / "nowhere")), "predict")


# ------------------------------------------------------------------------------------------------------- another task


def test_channels_are_those_given_or_else_those_of_the_class() -> None:
    module = CTPToDiffusionMRI(sources={"ncct": NonContrastCT()}, units={"ncct": "HU"})
    assert [c.name for c in module.spec.source] == ["ncct"]
    assert module.spec.target == CTPToDiffusionMRI().spec.target
    assert module.task.quantities["ncct"] == NonContrastCT("HU")
    assert list(CTPToDiffusionMRI().task.sources) == ["ctp"]
    module = CTPToDiffusionMRI(targets={"adc": ApparentDiffusion()})
    assert module.spec.target_names == ["adc"]
    assert module.spec.source == CTPToDiffusionMRI().spec.source


def test_a_unit_for_a_role_that_has_none_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"data\.units: no unit can be stated for dwi, flow; only for .*adc.*ctp|ctp.*adc"
    ):
        CTPToDiffusionMRI(units={"dwi": "a.u.", "flow": "mL"})


def test_dwi_alone_has_the_scale_it_has_beside_adc(shared_tree: Path, shared_store: Path, tmp_path: Path) -> None:
    """The ADC map says what normal tissue is, whether or not it is synthesised too."""
    module = _module(tmp_path / "store", targets={"dwi": RelativeDWI()})
    store, _ = prepare(shared_tree, module.store_path, module.task, module.layout, module.settings, workers=1)
    assert store.spec.target_names == ["dwi"]
    for name in NAMES:
        both = SliceStore(shared_store).read(name, "target")
        np.testing.assert_array_equal(store.read(name, "target"), both[:, :1])
    for batch in _samples(module, _ready(module, "test").test_dataloader()):
        _require_sample(batch, 16, 1)


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
    task, settings = TwoContrastsToFLAIR().task, Settings(2.0, (36, 44))
    found = check(contrasts, task, CaseFolders(), settings, workers=1)
    assert list(found.cases) == ["p0", "p1", "p2", "p3"]
    assert not found.faults
    prepare(contrasts, tmp_path / "store", task, CaseFolders(), settings, workers=1)
    module = TwoContrastsToFLAIR(
        str(tmp_path / "store"), 2.0, (36, 44), batch_size=2, num_workers=0, split=RandomSplit(0.25, 0.25)
    )
    assert [c.name for c in module.spec.source] == ["t1", "t2"]
    assert module.spec.target_names == ["flair"]
    _ready(module, "fit")
    for batch in _samples(module, module.train_dataloader()):
        _require_sample(batch, 2, 1, (36, 44))

    module.batch_size = 6
    (batch,) = _samples(module, module.val_dataloader())
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
    for batch in _samples(module, _ready(module, "predict").predict_dataloader()):
        _require_sample(batch, 2, None, (36, 44))
    assert module.parts["predict"] == ["p0", "p1", "p2", "p3"]
