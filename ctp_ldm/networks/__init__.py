"""Networks: diffusers' own, built from plain configs, and what diffusers and MONAI do not have."""

from ctp_ldm.networks.autoencoder import ImageAutoencoder, PixelSpace
from ctp_ldm.networks.bridge import BrownianBridgeScheduler
from ctp_ldm.networks.build import MONAI_NETWORKS, ConfigError, build_component, plain_config
from ctp_ldm.networks.forward import ForwardProcess
from ctp_ldm.networks.moments import LatentMoments
from ctp_ldm.networks.sampling import Noise, fixed_noise, initial_noise, sample_latents, slice_generators
from ctp_ldm.networks.schedule import build_scheduler
from ctp_ldm.networks.segmenter import LesionSegmenter

__all__ = [
    "MONAI_NETWORKS",
    "BrownianBridgeScheduler",
    "ConfigError",
    "ForwardProcess",
    "ImageAutoencoder",
    "LatentMoments",
    "LesionSegmenter",
    "Noise",
    "PixelSpace",
    "build_component",
    "build_scheduler",
    "fixed_noise",
    "initial_noise",
    "plain_config",
    "sample_latents",
    "slice_generators",
]
