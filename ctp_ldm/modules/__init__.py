"""LightningModules: one stage or method each; a stage is a subclass that overrides its loss."""

from ctp_ldm.modules.autoencoder import AutoencoderModule
from ctp_ldm.modules.base import TranslationModule
from ctp_ldm.modules.diffusion import LatentDiffusionModule
from ctp_ldm.modules.lesion import LesionModule
from ctp_ldm.modules.posttrain import LesionAwarePostTraining
from ctp_ldm.modules.segmenter import LesionReader, SegmenterModule
from ctp_ldm.modules.threshold import FlowThreshold

__all__ = [
    "AutoencoderModule",
    "FlowThreshold",
    "LatentDiffusionModule",
    "LesionAwarePostTraining",
    "LesionModule",
    "LesionReader",
    "SegmenterModule",
    "TranslationModule",
]
