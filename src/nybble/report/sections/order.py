"""All sections, in the order of the page."""

from __future__ import annotations

from nybble.report.sections.accuracy import accuracy
from nybble.report.sections.calibration import calibration
from nybble.report.sections.ensembles import ensembles
from nybble.report.sections.layers import layers
from nybble.report.sections.machine import machine
from nybble.report.sections.memory import memory
from nybble.report.sections.roofline import roofline
from nybble.report.sections.scenarios import scenarios
from nybble.report.sections.section import Section
from nybble.report.sections.speed import latency, ratios, throughput
from nybble.report.sections.tasks import tasks
from nybble.report.source import Material

_ALL = (
    throughput,
    ratios,
    latency,
    accuracy,
    tasks,
    ensembles,
    memory,
    scenarios,
    layers,
    roofline,
    calibration,
    machine,
)


def sections(material: Material) -> list[Section]:
    """Those that there is something for."""
    found = (make(material) for make in _ALL)
    return [section for section in found if section is not None]
