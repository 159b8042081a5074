"""Whether a changed kernel is noticed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ptx.errors import PtxError

from mutants.build import MutantError
from mutants.layers import LAYERS
from nybble.backends.cuda import emulated
from nybble.engine import Engine
from nybble.reference import interpret

#: Orders of blocks and warps that are tried.
_ORDERS = 3


def differs(module: SimpleNamespace, generation: int, key: str) -> bool:
    """Whether a layer gives another result than the reference, or a fault, in any of some orders."""
    graph, x = LAYERS[key].graph, LAYERS[key].x
    output = graph.outputs[0]
    expected = interpret(graph, x)[output]
    choices = LAYERS[key].choices
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulated, "emulator", lambda: module)
        with Engine(graph, device="cuda-emulated", isa=f"sm_{generation}", choices=choices) as engine:  # type: ignore[arg-type]
            for _ in range(_ORDERS):
                try:
                    found = engine.run_integer(x)
                except (MutantError, PtxError):
                    return True
                if not np.array_equal(found, expected):
                    return True
    return False
