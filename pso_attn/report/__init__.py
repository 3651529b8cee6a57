"""What a run means: pandas frames, matplotlib pictures and one self-contained page.

ReportInput ──findings──> what to believe ──┐
    └──frames──> pictures ──────────────────┴──> index.html, *.png, trials.csv
"""

from pso_attn.report.build import build_report
from pso_attn.report.findings import plain_summary
from pso_attn.report.inputs import ReportInput

__all__ = ["ReportInput", "build_report", "plain_summary"]
