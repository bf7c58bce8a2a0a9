"""A trained stage as a diffusers folder, and the diffusers pipeline that predicts with it."""

from ctp_ldm.pipeline.folder import write_folder
from ctp_ldm.pipeline.pipeline import CTPLDMOutput, CTPLDMPipeline
from ctp_ldm.pipeline.reading import read_base, read_folder

__all__ = ["CTPLDMOutput", "CTPLDMPipeline", "read_base", "read_folder", "write_folder"]
