"""Everything before a batch: files → cases → slice store → DataModule."""

from ctp_ldm.data.cases import ISLES24, Case, CaseFolders, Layout
from ctp_ldm.data.module import CTPToDiffusionMRI, TranslationDataModule
from ctp_ldm.data.preparation import Settings
from ctp_ldm.data.prepare import check, prepare
from ctp_ldm.data.quantities import ApparentDiffusion, CTPerfusion, Intensity, Quantity, RelativeDWI, RobustRange
from ctp_ldm.data.splits import KFold, ListedSplit, RandomSplit, Split
from ctp_ldm.data.store import SliceStore

__all__ = [
    "ISLES24",
    "ApparentDiffusion",
    "CTPToDiffusionMRI",
    "CTPerfusion",
    "Case",
    "CaseFolders",
    "Intensity",
    "KFold",
    "Layout",
    "ListedSplit",
    "Quantity",
    "RandomSplit",
    "RelativeDWI",
    "RobustRange",
    "Settings",
    "SliceStore",
    "Split",
    "TranslationDataModule",
    "check",
    "prepare",
]
