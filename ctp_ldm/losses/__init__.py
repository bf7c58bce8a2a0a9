"""Decoded-pixel losses, what a config composes them with, and the terms of a discriminator."""

from ctp_ldm.losses.adversarial import adaptive_weight, hinge_discriminator, hinge_generator
from ctp_ldm.losses.masked import masked_mean
from ctp_ldm.losses.region import PixelTerm, RegionError

__all__ = ["PixelTerm", "RegionError", "adaptive_weight", "hinge_discriminator", "hinge_generator", "masked_mean"]
