"""What happens around training: averaged weights, checkpoints, guards, pictures, tables, NIfTI files."""

from ctp_ldm.callbacks.ema import EMA
from ctp_ldm.callbacks.finite import FiniteLoss, NonFiniteLoss
from ctp_ldm.callbacks.last import LastCheckpoint
from ctp_ldm.callbacks.nifti import NIfTIWriter
from ctp_ldm.callbacks.pictures import Pictures
from ctp_ldm.callbacks.tables import PatientTables

__all__ = ["EMA", "FiniteLoss", "LastCheckpoint", "NIfTIWriter", "NonFiniteLoss", "PatientTables", "Pictures"]
