"""Decoded-pixel losses, what a config composes them with, and the terms of a discriminator."""

from ctp_ldm.losses.adversarial import adaptive_weight, frozen, hinge_discriminator, hinge_generator
from ctp_ldm.losses.adversarial_term import Adversarial
from ctp_ldm.losses.channels import channel_factors
from ctp_ldm.losses.features import FeatureDistance
from ctp_ldm.losses.masked import masked_mean
from ctp_ldm.losses.region import RegionError
from ctp_ldm.losses.ssim import StructuralSimilarity
from ctp_ldm.losses.term import PixelTerm

__all__ = [
    "Adversarial",
    "FeatureDistance",
    "PixelTerm",
    "RegionError",
    "StructuralSimilarity",
    "adaptive_weight",
    "channel_factors",
    "frozen",
    "hinge_discriminator",
    "hinge_generator",
    "masked_mean",
]
