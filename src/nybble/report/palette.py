"""Colours of pages and pictures by their meaning, light and dark. The contrast to the background meets WCAG AA."""

from __future__ import annotations

#: Name: on light and on dark ground. Pages have them as CSS variables. Those of pictures (``DRAWN``) are all different.
COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#fbfaf7", "#15171b"),
    "card": ("#ffffff", "#1e2126"),
    "ink": ("#1d1f23", "#eceae4"),
    "soft": ("#5a5f69", "#a9aeb8"),
    "line": ("#dcd9d2", "#353942"),
    "track": ("#ece9e2", "#2d3139"),
    "now": ("#0b6e4f", "#4cc596"),
    "past": ("#7a7f8c", "#868d9b"),
    "right": ("#0b6e4f", "#5fd3a6"),
    "wrong": ("#a3281f", "#ff8f85"),
    "four": ("#0b5fa5", "#6cb2f0"),
    "eight": ("#c26a0a", "#f0a355"),
    "float": ("#777b82", "#9aa0ab"),
    "violet": ("#7a3ea1", "#c79be8"),
    "teal": ("#0f766e", "#4fc4bb"),
    "rose": ("#b0246a", "#f08cba"),
    "olive": ("#6b6a12", "#c4c25a"),
    "brown": ("#7d4f1f", "#d0a06a"),
    "cyan": ("#0e6a86", "#57c5de"),
}
DRAWN = (
    "card",
    "ink",
    "soft",
    "line",
    "track",
    "wrong",
    "four",
    "eight",
    "float",
    "violet",
    "teal",
    "rose",
    "olive",
    "brown",
    "cyan",
)

#: By bits of weights; they differ in lightness as well.
BITS = {4: "four", 8: "eight", 32: "float"}
#: Where a file does not say how many bits.
UNKNOWN = "ink"
#: Of an ensemble.
ENSEMBLE = "teal"
#: Colour and marker of kernels' methods: none of the colours of ``BITS``, and a marker each, so that colour is not all
#: that tells them apart. What is not a convolution, and what is rare, shares the last.
METHODS = {
    "sparse": ("rose", "o"),
    "quad": ("olive", "s"),
    "winograd": ("violet", "^"),
    "grouped": ("cyan", "D"),
    "depthwise": ("cyan", "d"),
    "chained": ("brown", "v"),
    "pair": ("ink", "P"),
}
OTHER = ("soft", "X")


def light(name: str) -> str:
    """The colour on light ground."""
    return COLOURS[name][0]


def stylesheet(theme: int) -> str:
    """CSS declarations of all colours: 0 light, 1 dark."""
    return " ".join(f"--{name}: {pair[theme]};" for name, pair in COLOURS.items())
