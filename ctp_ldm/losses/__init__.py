"""Decoded-pixel losses, and what a config composes them with."""

from ctp_ldm.losses.masked import masked_mean
from ctp_ldm.losses.region import PixelTerm, RegionError

__all__ = ["PixelTerm", "RegionError", "masked_mean"]
