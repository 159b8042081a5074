"""Pictures and reports: pages that stand by themselves, without a request to any network."""

from nybble.report.demo_page import render_demo, write_demo

__all__ = ["render_demo", "write_demo"]
