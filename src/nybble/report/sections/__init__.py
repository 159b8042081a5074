"""The sections of a report, each made of the documents that have values for it."""

from nybble.report.sections.disturbed import disturbed
from nybble.report.sections.facts import Fact, facts
from nybble.report.sections.order import sections
from nybble.report.sections.section import Section, Table

__all__ = ["Fact", "Section", "Table", "disturbed", "facts", "sections"]
