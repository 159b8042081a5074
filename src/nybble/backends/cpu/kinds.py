"""How the engine runs the steps of one kind."""

from __future__ import annotations

from abc import abstractmethod

from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.kernel import Kernel
from nybble.backends.kinds import BaseKind, find_kind
from nybble.graph.plugins import Registry
from nybble.lower import Step


class StepKind(BaseKind):
    """Plans steps of one kind and adds them to the native program."""

    def kernel(self, step: Step, isa: str) -> Kernel | None:
        """The untuned default kernel of a step; ``None`` for kinds without a choice of kernels."""
        return None

    @abstractmethod
    def add(self, step: Step, builder: Builder) -> None:
        """Add the step, and the values that it writes, to the native program. Its inputs have been added before."""


#: Kinds by name. Modules of ``nybble.backends.cpu.steps`` register theirs; other packages use entry points of the group
#: ``nybble.cpu_steps``, each of which names an instance of :class:`StepKind`.
KINDS: Registry[str, StepKind] = Registry(
    StepKind,  # type: ignore[type-abstract]
    "nybble.backends.cpu.steps",
    "nybble.cpu_steps",
    lambda kind: kind.kind,
)


def kind_of(step: Step) -> StepKind:
    """The kind of a step. Raises :class:`EngineError` if it cannot be run on the CPU."""
    return find_kind(KINDS, step, "the engine")
