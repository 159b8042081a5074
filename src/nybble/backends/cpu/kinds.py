"""How the engine runs the steps of one kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.kernel import Kernel
from nybble.backends.errors import EngineError
from nybble.graph.plugins import Registry
from nybble.lower import Step


class StepKind(ABC):
    """Planning and native form of the steps of one kind.

    Attributes
    ----------
    kind : str
        As :class:`~nybble.lower.step.Step` has it.
    """

    kind: ClassVar[str]

    def why_not(self, step: Step) -> str | None:
        """Why the engine cannot run a step, or ``None``."""
        return None

    def kernel(self, step: Step, isa: str) -> Kernel | None:
        """The untuned default of a step that kernels are chosen for."""
        return None

    @abstractmethod
    def add(self, step: Step, builder: Builder) -> None:
        """Add the step to the native program. What it reads is there already; it adds what it writes."""


#: Kinds by name. Modules of ``nybble.backends.cpu.steps`` register theirs; other packages use entry points of the group
#: ``nybble.cpu_steps``, each of which names an instance of :class:`StepKind`.
KINDS: Registry[str, StepKind] = Registry(
    StepKind,  # type: ignore[type-abstract]
    "nybble.backends.cpu.steps",
    "nybble.cpu_steps",
    lambda kind: kind.kind,
)


def kind_of(step: Step) -> StepKind:
    """How a step is run. Raises :class:`EngineError` if the engine cannot run it."""
    kind = KINDS.get(step.kind)
    why = kind.why_not(step) if kind is not None else f"the engine cannot run {step.head.op}"
    if kind is None or why is not None:
        raise EngineError(f"{step.head.name}: {why}; run it on the reference, device='reference'")
    return kind
