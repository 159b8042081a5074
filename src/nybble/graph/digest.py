"""A digest of a network's content."""

from __future__ import annotations

import dataclasses
import hashlib

from nybble.graph.graph import Graph
from nybble.graph.tensor import Tensor


def model_digest(graph: Graph) -> str:
    """SHA-256 of a network's names, attributes, types and constants, as hex; a few hundredths of a second."""
    digest = hashlib.sha256()
    for entry in graph.inputs:
        digest.update(f"{entry!r}\n".encode())
    for node in graph:
        # Tensors show as type and shape here; their bytes follow.
        digest.update(f"{node!r}\n".encode())
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if isinstance(value, Tensor):
                digest.update(value.raw())
    digest.update(f"{graph.outputs!r}\n".encode())
    return digest.hexdigest()
