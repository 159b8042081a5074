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
    """Makes the launches of the steps of one kind."""

    @abstractmethod
    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """The launches that compute the step's result, for the builder's batch."""

    def joined(self, projection: Step, step: Step, builder: Builder) -> list[Launch]:
        """As :meth:`launches`, including the projection that the step adds."""
        raise NotImplementedError


#: Kinds by name. Modules of ``nybble.backends.cuda.steps`` register theirs; other packages use entry points of the
#: group ``nybble.cuda_steps``, each of which names an instance of :class:`StepKind`.
KINDS: Registry[str, StepKind] = Registry(
    StepKind,  # type: ignore[type-abstract]
    "nybble.backends.cuda.steps",
    "nybble.cuda_steps",
    lambda kind: kind.kind,
)


def launches_of(run: Run, builder: Builder) -> list[Launch]:
    """The launches of a run after the entrance; none if the run is the stem."""
    if builder.plan.is_stem(run):
        return []
    kind = kind_of(run.steps[-1])
    if run.has_projection:
        projection, step = run.steps
        return kind.joined(projection, step, builder)
    return kind.launches(run.steps[-1], builder)


def kind_of(step: Step) -> StepKind:
    """The kind of a step. Raises :class:`EngineError` if it cannot be run on a GPU."""
    return find_kind(KINDS, step, "the GPU")
