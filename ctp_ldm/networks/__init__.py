"""Networks: diffusers' own, built from plain configs, and what diffusers and MONAI do not have."""

from ctp_ldm.networks.autoencoder import ImageAutoencoder
from ctp_ldm.networks.build import ConfigError, build_component
from ctp_ldm.networks.schedule import Prediction, build_scheduler

__all__ = ["ConfigError", "ImageAutoencoder", "Prediction", "build_component", "build_scheduler"]
