"""Shared by backends that run fused steps: a registry of the kinds of step that each can run."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar, TypeVar

from nybble.backends.errors import EngineError
from nybble.graph.plugins import Registry
from nybble.lower import Step


class BaseKind(ABC):
    """How a backend runs the steps of one kind.

    Attributes
    ----------
    kind : str
        As :class:`~nybble.lower.step.Step` has it.
    """

    kind: ClassVar[str]

    def why_not(self, step: Step) -> str | None:
        """The reason why the backend cannot run a step, or ``None``."""
        return None


K = TypeVar("K", bound=BaseKind)


def find_kind(kinds: Registry[str, K], step: Step, backend: str) -> K:
    """The kind of a step. Raises :class:`EngineError` if ``backend``, as errors call it, cannot run the step."""
    kind = kinds.get(step.kind)
    why = kind.why_not(step) if kind is not None else f"{backend} cannot run {step.head.op}"
    if kind is None or why is not None:
        raise EngineError(f"{step.head.name}: {why}; run it on the reference, device='reference'")
    return kind
