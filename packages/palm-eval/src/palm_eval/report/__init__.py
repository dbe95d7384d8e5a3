"""One HTML file that shows a portfolio: who serves whom, what they answer, how we know."""

from palm_eval.report.contents import ReportContents, gather_report
from palm_eval.report.page import render_report, write_report

__all__ = ["ReportContents", "gather_report", "render_report", "write_report"]
