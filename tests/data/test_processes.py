"""Two real processes share an epoch exactly, and patients whole."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ctp_ldm.data import KFold, SliceStore

from .conftest import CASES

SCRIPT = """
import json, sys
from pathlib import Path
import lightning as L
import torch
from ctp_ldm.data import CTPToDiffusionMRI, KFold


class Watcher(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight, self.trained, self.validated = torch.nn.Parameter(torch.zeros(1)), [], []

    def training_step(self, batch, index):
        self.trained += [(self.current_epoch, *row) for row in zip(batch["case"], batch["slice_index"].tolist())]
        return (self.weight - 1).square().sum()

    def validation_step(self, batch, index):
        self.validated += list(zip(batch["case"], batch["slice_index"].tolist()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_fit_end(self):
        Path(sys.argv[2], f"{self.global_rank}.json").write_text(json.dumps([self.trained, self.validated]))


if __name__ == "__main__":
    data = CTPToDiffusionMRI(sys.argv[1], 6.0, (32, 40), batch_size=4, num_workers=0, split=KFold(3, 0), seed=1,
                             lesion_oversampling=1.5)
    L.Trainer(accelerator="cpu", devices=2, strategy="ddp", use_distributed_sampler=sys.argv[3] == "true",
              max_epochs=2, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
              enable_progress_bar=False, enable_model_summary=False).fit(Watcher(), datamodule=data)
"""


def _fit(store: Path, out: Path, lightning_shards: str) -> subprocess.CompletedProcess[str]:
    (out / "fit.py").write_text(SCRIPT)
    command = [sys.executable, str(out / "fit.py"), str(store), str(out), lightning_shards]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_two_processes_see_every_slice_once_and_every_patient_whole(shared_store: Path, tmp_path: Path) -> None:
    done = _fit(shared_store, tmp_path, "false")
    assert done.returncode == 0, done.stderr[-2000:]
    trained, validated = zip(*(json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)), strict=True)
    store, parts = SliceStore(shared_store), KFold(3, 0).assign([f"sub-stroke{i:04d}" for i in range(1, CASES + 1)])
    slices = {(n, z): store.records[n].lesion_voxels[z] for n in parts["train"] for z in range(6)}  # type: ignore[index]
    for epoch in (0, 1):
        shown = Counter((name, z) for rows in trained for e, name, z in rows if e == epoch)
        with_lesion = {where for where, voxels in slices.items() if voxels}
        assert set(shown) == set(slices)
        assert all(shown[where] == 1 for where in set(slices) - with_lesion)
        assert sum(shown[where] for where in with_lesion) == len(with_lesion) + round(0.5 * len(with_lesion))
    assert abs(len(trained[0]) - len(trained[1])) <= 2 * 3  # batches differ by one slice at most
    patients = [{name for name, _ in rows} for rows in validated]
    assert not patients[0] & patients[1]
    assert patients[0] | patients[1] == set(parts["val"])
    assert max(Counter((n, z) for rows in validated for n, z in rows).values()) == 2  # once in each of two epochs


@pytest.mark.slow
def test_sharding_by_lightning_on_top_is_refused(shared_store: Path, tmp_path: Path) -> None:
    done = _fit(shared_store, tmp_path, "true")
    assert done.returncode != 0
    assert "set trainer.use_distributed_sampler to false" in done.stderr
