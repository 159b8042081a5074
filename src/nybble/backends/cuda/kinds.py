"""How the GPU runs the steps of one kind."""

from __future__ import annotations

from abc import abstractmethod

from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.plan import Run
from nybble.backends.kinds import BaseKind, find_kind
from nybble.graph.plugins import Registry
from nybble.lower import Step


class StepKind(BaseKind):
    """The launches of the steps of one kind."""

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


def launches_of(run: Run, builder: Builder) -> list[Launch]:
    """What computes a run after the entrance: nothing, if it is the stem."""
    return [] if builder.plan.is_stem(run) else kind_of(run.steps[-1]).launches(run.steps[-1], builder)


def kind_of(step: Step) -> StepKind:
    """How a step is run. Raises :class:`EngineError` if it cannot be run on a GPU."""
    return find_kind(KINDS, step, "the GPU")
