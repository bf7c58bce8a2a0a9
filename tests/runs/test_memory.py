"""Out of memory, told in settings."""

from pathlib import Path

import pytest
import torch
from samples import trainer

from ctp_ldm.runs.memory import OutOfMemory, explain_memory


def test_a_full_device_is_answered_with_the_settings_that_help(tmp_path: Path) -> None:
    run = trainer(tmp_path, accumulate_grad_batches=2)
    said = "CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has …"
    with pytest.raises(OutOfMemory) as failure, explain_memory(run, batch_size=6):
        raise torch.OutOfMemoryError(said)
    message = str(failure.value)
    assert "out of memory (CUDA out of memory. Tried to allocate 20.00 MiB.)" in message
    assert "trainer.precision: bf16-mixed (now 32-true)" in message
    assert "data.batch_size: 3 (now 6) with trainer.accumulate_grad_batches: 4 (now 2)" in message
    assert "model.checkpoint_decoder: true" in message
    assert "ema: null" in message
    assert isinstance(failure.value.__cause__, torch.OutOfMemoryError)


def test_a_failed_allocation_of_the_cpu_is_explained_too(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match="allocate memory"), explain_memory(trainer(tmp_path), 4):
        torch.empty(10**15)


def test_a_batch_of_one_is_not_halved(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match=r"data\.batch_size: 1 \(now 1\)"), explain_memory(trainer(tmp_path), 1):
        raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("out of memory"), KeyError("out")])
def test_other_errors_stay_what_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as failure, explain_memory(trainer(tmp_path), 4):
        raise error
    assert failure.value is error
