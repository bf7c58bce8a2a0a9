"""What happens around training: averaged weights, checkpoints, guards, pictures, evaluation, NIfTI files."""

from ctp_ldm.callbacks.ema import EMA
from ctp_ldm.callbacks.evaluation import Evaluation, EvaluationError
from ctp_ldm.callbacks.finite import FiniteLoss, NonFiniteLoss
from ctp_ldm.callbacks.last import LastCheckpoint
from ctp_ldm.callbacks.nifti import NIfTIWriter
from ctp_ldm.callbacks.pictures import Pictures

__all__ = [
    "EMA",
    "Evaluation",
    "EvaluationError",
    "FiniteLoss",
    "LastCheckpoint",
    "NIfTIWriter",
    "NonFiniteLoss",
    "Pictures",
]
