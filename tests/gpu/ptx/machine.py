"""Runs kernels: several blocks at a time, all of their threads together, those that are furthest behind first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from nybble.graph.types import Array
from ptx.errors import PtxError
from ptx.instructions import Act, compile_statement
from ptx.memory import GlobalMemory, SharedMemory
from ptx.state import State
from ptx.text import Kernel, Statement

#: Maximum number of threads that run together, and of bytes of their registers.
_MOST_LANES, _MOST_BYTES = 4096, 1 << 26
#: Position of threads that have ended.
_END = 1 << 30


@dataclass
class _Piece:
    """A basic block: instructions that run in sequence, and where threads continue.

    Attributes
    ----------
    acts : list
    products : int
        Matrix products among them.
    wavefronts : int
        Of a warp's accesses to shared memory, 128 bytes each.
    barrier : bool
        Whether threads wait at a barrier at the end.
    guard : str
        The predicate of the branch: ``%p1``, ``!%p1``, or nothing.
    taken : int or None
        Where the branch goes.
    after : int
        Where others go.
    """

    acts: list[Act] = field(default_factory=list)
    products: int = 0
    wavefronts: int = 0
    barrier: bool = False
    guard: str = ""
    taken: int | None = None
    after: int = _END

    @property
    def instructions(self) -> int:
        """With the branch or barrier at the end."""
        return len(self.acts) + (self.barrier or self.taken is not None)


@dataclass
class Counts:
    """Counts of the executed work.

    Attributes
    ----------
    rounds : int
        Of the loops over the depth, of all warps.
    outside : int
        Instructions of all warps outside of these loops.
    wavefronts : int
        Of shared memory, outside of these loops.
    blocks : int
        That ran.
    """

    rounds: int = 0
    outside: int = 0
    wavefronts: int = 0
    blocks: int = 0


class Program:
    """A kernel that is ready to run."""

    def __init__(self, kernel: Kernel, shared: int) -> None:
        self.kernel = kernel
        self._shared = shared
        self._pieces = _pieces(kernel.statements)
        self._loops = _loops(self._pieces)
        nbytes = sum({"pred": 1, "b32": 4, "b64": 8}[kind] for kind in kernel.registers.values())
        lanes = min(_MOST_LANES, _MOST_BYTES // nbytes)
        self._most = max(1, lanes // kernel.threads)

    @property
    def inside(self) -> int:
        """Instructions of the loops over the depth."""
        return sum(self._pieces[i].instructions for i in self._loops)

    def run(self, grid: tuple[int, int], params: bytes, memory: GlobalMemory, all_blocks: bool = True) -> Counts:
        """Run every block, or as many as run together. Raises :class:`PtxError` for faults of the kernel."""
        if len(params) != self.kernel.params:
            raise PtxError(f"{self.kernel.name}: {len(params)} bytes of parameters, not {self.kernel.params}")
        counts = Counts()
        total = grid[0] * grid[1] if all_blocks else min(grid[0] * grid[1], self._most)
        for first in range(0, total, self._most):
            blocks = range(first, min(total, first + self._most))
            shared = SharedMemory(len(blocks), self.kernel.threads, self._shared)
            values = np.frombuffer(params, np.uint8)
            state = State(self.kernel.registers, grid[0], blocks, self.kernel.threads, memory, shared, values)
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                self._run(state, counts)
            counts.blocks += len(blocks)
            if any(state.copies):
                raise PtxError(f"{self.kernel.name}: ends while copies are under way")
        return counts

    def _run(self, state: State, counts: Counts) -> None:
        """Run the first piece in the text that any thread has reached. This makes threads reconverge."""
        ready: dict[int, Array] = {0: np.ones(state.count, np.bool_)}
        waiting: dict[int, Array] = {}
        while ready or waiting:
            if not ready:
                self._pass_barrier(ready, waiting)
            at = min(ready)
            mask = ready.pop(at)
            if not mask.any():
                continue
            piece = self._pieces[at]
            state.select(None if mask.all() else mask)
            for act in piece.acts:
                act(state)
            warps = int(mask.reshape(-1, 32).any(axis=1).sum())
            if at not in self._loops:
                counts.outside += warps * piece.instructions
                counts.wavefronts += warps * piece.wavefronts
            elif piece.products:
                counts.rounds += warps
            for to, some in _leave(piece, state, mask):
                if to != _END:
                    _add(waiting if piece.barrier else ready, to, some)

    def _pass_barrier(self, ready: dict[int, Array], waiting: dict[int, Array]) -> None:
        """Release barriers. All threads of a block that have not ended must be at the same barrier."""
        blocks = [mask.reshape(-1, self.kernel.threads).any(axis=1) for mask in waiting.values()]
        if len(blocks) > 1 and np.any(np.sum(blocks, axis=0) > 1):
            raise PtxError(f"{self.kernel.name}: threads of a block wait at different barriers")
        ready.update(waiting)
        waiting.clear()


def _add(to: dict[int, Array], at: int, mask: Array) -> None:
    to[at] = to[at] | mask if at in to else mask


def _leave(piece: _Piece, state: State, mask: Array) -> Iterator[tuple[int, Array]]:
    if piece.taken is None:
        yield piece.after, mask
    elif not piece.guard:
        yield piece.taken, mask
    else:
        chosen = state.view(piece.guard.removeprefix("!"), "pred")
        chosen = ~chosen if piece.guard.startswith("!") else chosen
        yield piece.taken, mask & chosen
        yield piece.after, mask & ~chosen


def _pieces(statements: list[Statement]) -> list[_Piece]:
    found, labels = [_Piece()], {}
    branches: list[tuple[_Piece, str]] = []
    for statement in statements:
        piece = found[-1]
        if statement.op == "":
            found.append(_Piece())
            labels[statement.operands[0]] = len(found) - 1
            piece.after = len(found) - 1
            continue
        if statement.op not in ("bra", "bra.uni", "ret", "bar.sync"):
            piece.acts.append(compile_statement(statement))
            piece.products += statement.op.startswith("mma")
            piece.wavefronts += _wavefronts(statement.op)
            continue
        if statement.op == "bar.sync" and (statement.operands != ("0",) or statement.guard):
            raise PtxError("bar.sync: only barrier 0 of all threads is supported")
        piece.barrier = statement.op == "bar.sync"
        piece.guard = statement.guard
        if statement.op.startswith("bra"):
            branches.append((piece, statement.operands[0]))
        found.append(_Piece())
        piece.after = len(found) - 1
        if statement.op == "ret":
            piece.taken = _END
    for piece, label in branches:
        piece.taken = labels[label]
    return found


def _wavefronts(op: str) -> int:
    """Wavefronts of a warp's access to shared memory, if no two lanes meet in a bank."""
    if op.startswith(("ldmatrix", "cp.async.cg")):
        return 4
    if not op.startswith(("ld.shared", "st.shared")):
        return 0
    vector = re.search(r"\.v(\d)", op)
    return int(vector[1]) if vector else 1


def _loops(pieces: list[_Piece]) -> frozenset[int]:
    """The pieces of the loops that contain matrix products: one for each convolution of a kernel."""
    found: set[int] = set()
    for i, piece in enumerate(pieces):
        first = i + 1 if piece.taken is None else piece.taken
        inside = range(first, i + 1)
        if not found.intersection(inside) and any(pieces[one].products for one in inside):
            found.update(inside)
    return frozenset(found)
