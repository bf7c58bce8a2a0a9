"""Diffusion MRI from CT perfusion with lesion-aware latent diffusion."""

__version__ = "0.2.0"
