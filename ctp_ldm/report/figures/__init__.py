"""Figures of a report, each drawn from a study."""

from ctp_ldm.report.figures.agreement import agreement
from ctp_ldm.report.figures.calibration import calibration
from ctp_ldm.report.figures.curves import curves
from ctp_ldm.report.figures.false_lesion import false_lesion
from ctp_ldm.report.figures.forest import forest
from ctp_ldm.report.figures.plot import Figure, Plot
from ctp_ldm.report.figures.strata import strata

__all__ = ["Figure", "Plot", "agreement", "calibration", "curves", "false_lesion", "forest", "strata"]
