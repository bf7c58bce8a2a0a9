"""What the tests of evaluation share."""

import pytest
import torch
from samples import random_batch

from ctp_ldm.sample import Sample


@pytest.fixture
def patients() -> Sample:
    """Patient 007 has a lesion of 24 voxels in each of two slices; patient 8 has none."""
    batch = random_batch(4)
    batch["case"] = ["8", "007", "8", "007"]
    batch["slice_index"] = torch.tensor([0, 0, 1, 1])
    batch["lesion"][::2] = 0
    batch["target"] = torch.where(batch["brain"] > 0, batch["target"], -1.0)  # as prepared images are
    return batch
