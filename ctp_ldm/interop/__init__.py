"""Published checkpoints and diffusers folders in, and back out: every network is a stock diffusers class in between."""

from ctp_ldm.interop.compvis import CompVisModel, read_compvis
from ctp_ldm.interop.export import write_compvis
from ctp_ldm.interop.fold import fold
from ctp_ldm.interop.network import Network
from ctp_ldm.interop.stages import stage_checkpoints, stage_config

__all__ = ["CompVisModel", "Network", "fold", "read_compvis", "stage_checkpoints", "stage_config", "write_compvis"]
