"""Digests of everything that the answers of a network or an ensemble depend on."""

from __future__ import annotations

from nybble.engine.ensemble.ensemble import Ensemble
from nybble.graph import Graph
from nybble.graph.digest import model_digest
from nybble.images import class_names


def answers_digest(graph: Graph) -> str:
    """Of a network: its layers, how photos are prepared, and the names of its classes."""
    return f"{model_digest(graph)} {graph.preprocessing} {class_names(graph)}"


def ensemble_digest(ensemble: Ensemble) -> str:
    """The settings of an ensemble, and its members."""
    members = [
        f"{answers_digest(member.engine.graph)} {member.temperature!r} {member.weight!r} {member.threshold!r}"
        for member in ensemble.members
    ]
    return "\n".join([ensemble.kind, *members])
