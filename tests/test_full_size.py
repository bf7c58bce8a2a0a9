"""One training step of each shipped full-size network: batch 1, no EMA, no checkpoint. Needs about 16 GB of memory."""

import pytest
import torch
from shipped import STAGES, build, random_images

from ctp_ldm.modules import LatentDiffusionModule


@pytest.mark.slow
@pytest.mark.xdist_group("memory")  # one after the other, whatever runs beside them
@pytest.mark.parametrize("name", [*STAGES, "published/autoencoder"])
def test_one_step_of_the_full_size_network_changes_its_weights(name: str) -> None:
    module, _ = build(name)
    if isinstance(module, LatentDiffusionModule):
        assert sum(p.numel() for p in module.denoiser.parameters()) == pytest.approx(739.6e6, rel=1e-4)
    module.train()
    sample = random_images(module.spec, 1)
    trained = [p for p in module.parameters() if p.requires_grad]
    probe = trained[0].detach().clone()
    # Plain SGD: Adam's two moments would take another 6 GB.
    optimizer = torch.optim.SGD(trained, lr=1.0)
    loss = torch.stack(list(module.loss(sample).values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in trained if p.grad is not None)
    optimizer.step()
    assert not torch.equal(trained[0], probe)
