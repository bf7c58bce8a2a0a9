"""Runs and data sets → tables, figures and pages."""

from ctp_ldm.report.comparison import compare_runs
from ctp_ldm.report.findings import show_findings, write_findings
from ctp_ldm.report.site import write_report

__all__ = ["compare_runs", "show_findings", "write_findings", "write_report"]
