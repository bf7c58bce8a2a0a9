"""LightningModules: one stage or method each; a stage is a subclass that overrides its loss."""

from ctp_ldm.modules.autoencoder import AutoencoderModule
from ctp_ldm.modules.base import TranslationModule
from ctp_ldm.modules.diffusion import LatentDiffusionModule
from ctp_ldm.modules.posttrain import LesionAwarePostTraining

__all__ = ["AutoencoderModule", "LatentDiffusionModule", "LesionAwarePostTraining", "TranslationModule"]
