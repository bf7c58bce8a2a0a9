"""Runs and data sets → tables and figures."""

from ctp_ldm.report.comparison import compare_runs
from ctp_ldm.report.findings import show_findings, write_findings

__all__ = ["compare_runs", "show_findings", "write_findings"]
