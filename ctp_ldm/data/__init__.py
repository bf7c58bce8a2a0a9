"""Everything before a batch: files → cases → slice store → DataModule."""

from ctp_ldm.data.cases import Case, Layout
from ctp_ldm.data.check import Findings, Fingerprint, check, require_good
from ctp_ldm.data.layouts import ISLES18, ISLES22, ISLES24, CaseFolders, Datalist
from ctp_ldm.data.module import CTPToDiffusionMRI, TranslationDataModule
from ctp_ldm.data.preparation import Settings
from ctp_ldm.data.prepare import prepare
from ctp_ldm.data.quantities import (
    CBF,
    CBV,
    MTT,
    ApparentDiffusion,
    CTPerfusion,
    Intensity,
    NonContrastCT,
    PerfusionMap,
    PublishedCTPerfusion,
    QuantitativeMap,
    Quantity,
    RelativeDWI,
    RobustRange,
    Tmax,
)
from ctp_ldm.data.resampled import in_one_line
from ctp_ldm.data.splits import KFold, ListedSplit, RandomSplit, Split
from ctp_ldm.data.store import SliceStore
from ctp_ldm.data.task import Task

__all__ = [
    "CBF",
    "CBV",
    "ISLES18",
    "ISLES22",
    "ISLES24",
    "MTT",
    "ApparentDiffusion",
    "CTPToDiffusionMRI",
    "CTPerfusion",
    "Case",
    "CaseFolders",
    "Datalist",
    "Findings",
    "Fingerprint",
    "Intensity",
    "KFold",
    "Layout",
    "ListedSplit",
    "NonContrastCT",
    "PerfusionMap",
    "PublishedCTPerfusion",
    "QuantitativeMap",
    "Quantity",
    "RandomSplit",
    "RelativeDWI",
    "RobustRange",
    "Settings",
    "SliceStore",
    "Split",
    "Task",
    "Tmax",
    "TranslationDataModule",
    "check",
    "in_one_line",
    "prepare",
    "require_good",
]
