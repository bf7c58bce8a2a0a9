"""`ctp-ldm convert`."""

from pathlib import Path
from typing import Literal

from jsonargparse import lazy_instance

from ctp_ldm.data import CTPToDiffusionMRI, TranslationDataModule
from ctp_ldm.interop.inputs import read_input
from ctp_ldm.interop.outputs import WRITERS


def convert(
    model: Path,
    out: Path,
    to: Literal["stages", "diffusers", "compvis"] | None = None,
    data: TranslationDataModule = lazy_instance(CTPToDiffusionMRI),
    head_width: int = 32,
    norm_groups: int = 32,
    scaling_factor: float | None = None,
    parameterization: Literal["eps", "x0", "v"] = "eps",
) -> None:
    """Import a published model, or export a trained stage.

    MODEL is a checkpoint of this project, a diffusers folder of this project or of another, or a checkpoint in the
    layout of CompVis' latent diffusion, which the published system has. OUT is, for

    - stages: a folder with a checkpoint of each stage for --init_from, and model.yaml with the networks and the noise
      schedule, to be given as a second --config (what foreign models become unless told otherwise);
    - diffusers: a diffusers folder, for CTPLDMPipeline and --init_from (what models of this project become);
    - compvis: a checkpoint in CompVis' layout.

    Models of this project know their data. Of a foreign one the data section of a config says what its channels mean.

    Args:
        model: checkpoint or folder to convert.
        out: file or folder to write.
        to: kind of OUT: stages (checkpoints for --init_from, and model.yaml), diffusers (a folder) or compvis (a
            checkpoint in that layout); unless given, stages of a foreign model and diffusers of one of this project.
        data: DataModule of the data that a foreign model was trained on.
        head_width: of the denoiser's attention (num_head_channels), which weights in CompVis' layout do not tell.
        norm_groups: groups of every normalisation, likewise.
        scaling_factor: what a foreign model's latents are multiplied with, where no file says it; it goes before a
            diffusers folder's own, whose shift stays.
        parameterization: what the denoiser of a file in CompVis' layout puts out, as its config has it: noise (eps),
            the image (x0) or velocity (v).
    """
    found = read_input(model, lambda: data.spec, head_width, norm_groups, scaling_factor, parameterization)
    lines = WRITERS[to or ("diffusers" if found.ours else "stages")](found, out)
    print("\n".join([*found.remarks, *lines]))
