"""HTML report of a portfolio: served weights, answers, evidence, in one file."""

from palm_eval.report.contents import ReportContents, gather_report
from palm_eval.report.page import render_report, write_report

__all__ = ["ReportContents", "gather_report", "render_report", "write_report"]
