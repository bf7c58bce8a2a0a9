"""Latents that are encoded once: what is in the file, when it is used again, and who is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import KL, PIXELS, ToyData, diffusion, optimizer, posttrain, random_batch, trainer
from torch import Tensor

from ctp_ldm.losses import RegionError
from ctp_ldm.modules import LatentDiffusionModule
from ctp_ldm.networks import ConfigError
from ctp_ldm.sample import Sample, Showings

FLIPS = range(4)
AXES: list[list[int]] = [[], [-2], [-1], [-2, -1]]
"""Of each number."""


class FlippedData(ToyData):
    """A training slice in each of the four flips makes a batch; `slices` of them."""

    flips: range | None = FLIPS

    def __init__(self, slices: int = 2) -> None:
        self.plain = [random_batch(1, seed=i, case=f"case{i}") for i in range(slices)]
        super().__init__(*(self._flipped(batch) for batch in self.plain))

    def _flipped(self, plain: Sample) -> Sample:
        pictures = ("source", "target", "brain", "lesion")
        arrays: dict[str, Any] = {k: torch.cat([plain[k].flip(a) for a in AXES]) for k in pictures}  # type: ignore[literal-required]
        where = {"case": plain["case"] * 4, "slice_index": plain["slice_index"].repeat(4)}
        return {**arrays, **where, "flip": torch.tensor(FLIPS)}  # type: ignore[return-value, typeddict-item]

    def showings(self) -> Showings:
        keys = [(f"case{i}", 0, flip) for i in range(len(self.plain)) for flip in FLIPS]
        return Showings(keys, f"{len(keys)}", self.batches)  # type: ignore[arg-type]


class Watched(LatentDiffusionModule):
    """Counts the slices that are encoded, and keeps the batches that it is trained and validated on."""

    def watch(self) -> "Watched":
        self.encoded, self.seen, self.validated = 0, list[Sample](), list[Sample]()
        encode = self.autoencoder.encode

        def counting(images: Tensor) -> Tensor:
            self.encoded += len(images)
            return encode(images)

        self.autoencoder.encode = counting  # type: ignore[method-assign]
        return self

    def loss(self, batch: Sample) -> dict[str, Tensor]:
        self.seen.append(batch)
        return super().loss(batch)

    def validation_step(self, batch: Sample, batch_idx: int) -> Any:
        self.validated.append(batch)
        return super().validation_step(batch, batch_idx)


def fitted(folder: Path, module: LatentDiffusionModule | None = None, **settings: Any) -> Watched:
    """Two batches of training that keeps latents in `folder`."""
    trained: Any = module or diffusion(cache_latents=str(folder), optimizer=optimizer(0.01))
    trained.__class__ = Watched
    trainer(folder, **settings).fit(trained.watch(), datamodule=FlippedData())
    return trained


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_batches_bring_what_the_autoencoder_makes_of_their_flipped_targets(tmp_path: Path) -> None:
    module = fitted(tmp_path / "latents")
    assert len(module.seen) == 2
    for batch in module.seen:
        plain = batch["target"][:1]
        expected = torch.cat([module.autoencoder.encode(plain.flip(axes)) for axes in AXES])
        torch.testing.assert_close(batch["latent"], expected, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(expected[0], expected[1].flip(-2), atol=1e-3), "flips could be made of latents"
    stored = np.load(only_file(tmp_path / "latents"))
    assert stored.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(stored[4:]), module.seen[1]["latent"], rtol=0, atol=0)


def test_targets_are_encoded_once_for_all_steps_and_runs(tmp_path: Path) -> None:
    folder = tmp_path / "latents"
    assert fitted(folder, max_steps=6).encoded == 8
    written = only_file(folder).stat()
    assert fitted(folder, max_steps=6).encoded == 0
    again = only_file(folder).stat()
    assert (written.st_ino, written.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)
    stage3 = posttrain(cache_latents=str(folder), terms=[RegionError("lesion", 0.1)], decoded_target="reconstruction")
    before = stage3.autoencoder.encode
    calls: list[int] = []
    stage3.autoencoder.encode = lambda images: calls.append(len(images)) or before(images)  # type: ignore[method-assign, func-returns-value]
    trainer(tmp_path).fit(stage3, datamodule=FlippedData())
    assert calls == []


def test_of_another_autoencoder_they_are_encoded_anew(tmp_path: Path) -> None:
    folder = tmp_path / "latents"
    fitted(folder)
    other = diffusion(cache_latents=str(folder))
    with torch.no_grad():
        other.autoencoder.net.encoder.conv_in.bias[0] += 1e-6
    assert fitted(folder, other).encoded == 8
    assert len(list(folder.iterdir())) == 2


def test_validation_batches_bring_none(tmp_path: Path) -> None:
    module = fitted(tmp_path / "latents", limit_val_batches=1)
    assert [("latent" in batch) for batch in module.validated] == [False]
    assert module.cached is None, "the file is mapped in training only"


@pytest.mark.parametrize("damage", ["truncated", "empty", "other shape"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "latents"
    fitted(folder)
    path = only_file(folder)
    whole = path.read_bytes()
    if damage == "other shape":
        np.save(path, np.zeros((8, 3, 4, 4), np.float32))
    else:
        path.write_bytes(whole[: len(whole) - 4] if damage == "truncated" else b"")
    with caplog.at_level("INFO"):
        assert fitted(folder).encoded == 8
    assert "is damaged" in caplog.text
    assert only_file(folder).read_bytes() == whole


def test_what_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    module = diffusion(cache_latents=str(tmp_path / "latents"))
    data = FlippedData()
    data.batches[1]["target"] = data.batches[1]["target"][:, :1]  # of one channel, which the autoencoder does not take
    with pytest.raises(RuntimeError):
        trainer(tmp_path).fit(module, datamodule=data)
    assert list((tmp_path / "latents").iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigError, match=r"model\.init_args\.cache_latents is .*file, where latents cannot be written"
    ):
        fitted(tmp_path / "file")


def test_a_dry_run_leaves_none(tmp_path: Path) -> None:
    assert fitted(tmp_path / "latents", fast_dev_run=1).encoded == 4
    assert not (tmp_path / "latents").exists()


def test_what_cannot_be_encoded_beforehand_is_refused(tmp_path: Path) -> None:
    data = FlippedData()
    data.flips = None  # as `data.augment: true` has it
    with pytest.raises(ConfigError, match=r"data\.init_args\.augment is true.*model\.init_args\.cache_latents: null"):
        trainer(tmp_path).fit(diffusion(cache_latents="latents"), datamodule=data)
    with pytest.raises(ConfigError, match=r"autoencoder is PixelSpace.*model\.init_args\.cache_latents: null"):
        trainer(tmp_path).fit(diffusion(PIXELS, cache_latents="latents"), datamodule=FlippedData())


def test_the_folder_is_no_part_of_the_model(tmp_path: Path) -> None:
    settings = dict(diffusion(KL, cache_latents=str(tmp_path)).hparams)
    assert settings == dict(diffusion(KL).hparams)
    assert "cache_latents" not in settings
