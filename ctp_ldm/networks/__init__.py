"""Networks: diffusers' own, built from plain configs, and what diffusers and MONAI do not have."""

from ctp_ldm.networks.autoencoder import ImageAutoencoder, PixelSpace, build_autoencoder, image_factor, unshuffled
from ctp_ldm.networks.bridge import BrownianBridgeScheduler
from ctp_ldm.networks.build import MONAI_NETWORKS, ConfigError, build_component, plain_config
from ctp_ldm.networks.condition import (
    MEAN,
    ConditionEncoder,
    SourceMean,
    SpaceToDepth,
    build_condition,
    describe_condition,
)
from ctp_ldm.networks.forward import ForwardProcess
from ctp_ldm.networks.moments import LatentMoments
from ctp_ldm.networks.sampling import Noise, initial_noise, sample_latents, slice_generators, training_noise
from ctp_ldm.networks.schedule import build_scheduler
from ctp_ldm.networks.segmenter import LesionSegmenter

__all__ = [
    "MEAN",
    "MONAI_NETWORKS",
    "BrownianBridgeScheduler",
    "ConditionEncoder",
    "ConfigError",
    "ForwardProcess",
    "ImageAutoencoder",
    "LatentMoments",
    "LesionSegmenter",
    "Noise",
    "PixelSpace",
    "SourceMean",
    "SpaceToDepth",
    "build_autoencoder",
    "build_component",
    "build_condition",
    "build_scheduler",
    "describe_condition",
    "image_factor",
    "initial_noise",
    "plain_config",
    "sample_latents",
    "slice_generators",
    "training_noise",
    "unshuffled",
]
