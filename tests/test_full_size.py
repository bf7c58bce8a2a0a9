"""One training step of each shipped full-size network: batch 1, no EMA, no checkpoint. Needs about 16 GB of memory."""

import pytest
import torch
import yaml

from ctp_ldm.configuration import shipped_configs
from ctp_ldm.data import CTPToDiffusionMRI
from ctp_ldm.losses import RegionError
from ctp_ldm.modules import AutoencoderModule, LatentDiffusionModule, LesionAwarePostTraining
from ctp_ldm.sample import Sample

STAGES = {
    "autoencoder": AutoencoderModule,
    "diffusion": LatentDiffusionModule,
    "posttrain": LesionAwarePostTraining,
}


@pytest.mark.slow
@pytest.mark.xdist_group("memory")  # one after the other, whatever runs beside them
@pytest.mark.parametrize("name", STAGES)
def test_one_step_of_the_full_size_network_changes_its_weights(name: str) -> None:
    config = yaml.safe_load((shipped_configs() / f"{name}.yaml").read_text())
    data = config["data"]["init_args"]
    spec = CTPToDiffusionMRI().task.spec(data["spacing"], tuple(data["size"]))
    arguments = {k: v for k, v in config["model"]["init_args"].items() if k != "optimizer"}
    if "terms" in arguments:
        arguments["terms"] = [RegionError(**term["init_args"]) for term in arguments["terms"]]
    torch.manual_seed(0)
    module = STAGES[name](spec.to_plain(), **arguments)
    if isinstance(module, LatentDiffusionModule):
        assert sum(p.numel() for p in module.denoiser.parameters()) == pytest.approx(739.4e6, rel=1e-4)
        module.latent_mean.zero_()
        module.latent_std.fill_(1.0)
    module.train()
    size = spec.size
    sample: Sample = {
        "source": torch.rand(1, len(spec.source), *size) * 2 - 1,
        "target": torch.rand(1, len(spec.target), *size) * 2 - 1,
        "brain": torch.ones(1, 1, *size),
        "lesion": (torch.rand(1, 1, *size) > 0.9).float(),
        "case": ["a"],
        "slice_index": torch.tensor([0]),
    }
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
