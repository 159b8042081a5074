"""Operations that only move codes."""

from __future__ import annotations

import numpy as np

from nybble.backends.cuda import structures
from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.kinds import KINDS, StepKind
from nybble.graph.ops.moving import Moves
from nybble.lower import Step


class MoveKind(StepKind):
    """Moves on a GPU: copies, code by code."""

    kind = "move"

    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """Launches with the step's indices; padding is zero."""
        moves = step.body_as(Moves)
        source, result = builder.stored(step.input), builder.stored(step.result)
        channels = np.full((len(moves.channels), result.pitch), -1, np.int32)
        channels[:, : result.channels] = moves.channels
        indices = {
            name: builder.constants.add(np.array(getattr(moves, name), np.int32))
            for name in ("rows", "columns", "row_maps", "column_maps")
        }
        params = structures.MoveParams(
            input=builder.tensor(step.input),
            out=builder.tensor(step.result),
            channels=builder.constants.add(channels),
            pixels=builder.pixels(step.result),
            height=source.extents[0],
            width=source.extents[1],
            out_height=result.extents[0],
            out_width=result.extents[1],
            map_pitch=result.pitch,
            **indices,
        )
        return [Launch("layer_move", builder.layer_grid(step.result), params)]


KINDS.register(MoveKind())
