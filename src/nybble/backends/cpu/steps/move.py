"""Operations that only move codes."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.graph.ops.moving import Moves
from nybble.lower import Step


class MoveKind(StepKind):
    """Moves on the CPU: copies, pixel by pixel."""

    kind = "move"

    def add(self, step: Step, builder: Builder) -> None:
        """Pass the step's indices."""
        moves = step.body_as(Moves)
        spec = _native.MoveSpec()
        spec.input = builder.ids[step.source]
        spec.rows, spec.columns = list(moves.rows), list(moves.columns)
        spec.row_maps, spec.column_maps = list(moves.row_maps), list(moves.column_maps)
        spec.channels = [list(channels) for channels in moves.channels]
        spec.output, spec.output_lists = builder.output(step)
        builder.program.add_move(spec)


KINDS.register(MoveKind())
