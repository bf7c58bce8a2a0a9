"""Tested runs → tables and figures."""

from ctp_ldm.report.comparison import compare_runs

__all__ = ["compare_runs"]
