"""The contents of ``nybble demo``: sample photos, the answers of several forms of a network, and speeds."""

from nybble.demo.answers import ANSWERS, Answer, Form, PhotoAnswers, Recorded, read_answers, write_answers
from nybble.demo.errors import DemoError
from nybble.demo.photos import Sample, samples
from nybble.demo.result import Column, DemoResult, Detector, Network, Shown
from nybble.demo.show import show
from nybble.demo.speed import Contestant, Speed, measure_in_turns

__all__ = [
    "ANSWERS",
    "Answer",
    "Column",
    "Contestant",
    "DemoError",
    "DemoResult",
    "Detector",
    "Form",
    "Network",
    "PhotoAnswers",
    "Recorded",
    "Sample",
    "Shown",
    "Speed",
    "measure_in_turns",
    "read_answers",
    "samples",
    "show",
    "write_answers",
]
