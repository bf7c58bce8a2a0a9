"""`ctp-ldm convert`."""

from pathlib import Path

import yaml
from jsonargparse import lazy_instance

from ctp_ldm.data import CTPToDiffusionMRI, TranslationDataModule
from ctp_ldm.interop import read_compvis, stage_checkpoints, stage_config
from ctp_ldm.runs import AtomicCheckpointIO


def convert(
    checkpoint: Path,
    out: Path,
    data: TranslationDataModule = lazy_instance(CTPToDiffusionMRI),
    head_width: int = 32,
    norm_groups: int = 32,
) -> None:
    """Import a checkpoint in the layout of CompVis' latent diffusion, which the published system has.

    It writes OUT/autoencoder.ckpt and OUT/diffusion.ckpt for `--init_from`, and OUT/model.yaml with the networks and
    the noise schedule, to be given as a second `--config`. The data section of a config says what the model's channels
    mean.

    Args:
        checkpoint: of an autoencoder, or of a latent diffusion model with its autoencoder.
        out: folder to write.
        data: DataModule of the data that the model was trained on.
        head_width: of the denoiser's attention, which the weights do not tell (num_head_channels).
        norm_groups: groups of every normalisation, likewise.
    """
    model = read_compvis(checkpoint, head_width, norm_groups)
    stages = stage_checkpoints(model, data.spec)
    for stage, content in stages.items():
        AtomicCheckpointIO().save_checkpoint(content, out / f"{stage}.ckpt")
        print(f"{stage}: {out / f'{stage}.ckpt'}")
    (out / "model.yaml").write_text(yaml.safe_dump(stage_config(model), sort_keys=False))
    print(f"networks and schedule: {out / 'model.yaml'}")
    print("averaged weights (EMA) were found and used" if model.averaged else "no averaged weights (EMA) in the file")
    if model.ignored:
        print(f"not used, because no network here needs them: {', '.join(model.ignored)}")
