"""How the GPU runs the steps of one kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.device import Launch
from nybble.backends.errors import EngineError
from nybble.graph.plugins import Registry
from nybble.lower import Step


class StepKind(ABC):
    """The launches of the steps of one kind.

    Attributes
    ----------
    kind : str
        As :class:`~nybble.lower.step.Step` has it.
    """

    kind: ClassVar[str]

    def why_not(self, step: Step) -> str | None:
        """Why the GPU cannot run a step, or ``None``."""
        return None

    @abstractmethod
    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """What computes the step's result, for the builder's batch."""


#: Kinds by name. Modules of ``nybble.backends.cuda.steps`` register theirs; other packages use entry points of the
#: group ``nybble.cuda_steps``, each of which names an instance of :class:`StepKind`.
KINDS: Registry[str, StepKind] = Registry(
    StepKind,  # type: ignore[type-abstract]
    "nybble.backends.cuda.steps",
    "nybble.cuda_steps",
    lambda kind: kind.kind,
)


def kind_of(step: Step) -> StepKind:
    """How a step is run. Raises :class:`EngineError` if it cannot be."""
    kind = KINDS.get(step.kind)
    why = kind.why_not(step) if kind is not None else f"the GPU cannot run {step.head.op}"
    if kind is None or why is not None:
        raise EngineError(f"{step.head.name}: {why}; run it on the reference, device='reference'")
    return kind
