"""Pictures and reports: self-contained pages that request nothing from a network."""

from nybble.report.demo_page import render_demo, write_demo
from nybble.report.errors import ReportError
from nybble.report.report_page import render_report, write_figures, write_report
from nybble.report.source import Material, read_material

__all__ = [
    "Material",
    "ReportError",
    "read_material",
    "render_demo",
    "render_report",
    "write_demo",
    "write_figures",
    "write_report",
]
