"""The plan of a network: fused steps, a kernel for each, and every value's place in one arena."""

from __future__ import annotations

from dataclasses import dataclass, field

from nybble.backends.cpu.kernel import Kernel
from nybble.backends.cpu.order import Order
from nybble.graph import Graph
from nybble.lower import Step, Value

#: Names of lists, by the number of channels in a group.
_LISTS = {1: "singles", 2: "pairs", 4: "quads"}


@dataclass(frozen=True)
class Slot:
    """A block of the arena: a value, or the lists of one."""

    name: str
    nbytes: int
    offset: int
    first: int
    last: int


@dataclass
class Plan:
    """The program that the engine runs. ``print(plan)`` shows one line per step.

    Attributes
    ----------
    graph : Graph
        The graph whose nodes were fused: the network, with composite operations expanded.
    isa : str
    steps : list of Step
    values : dict
        All values that are stored, by name.
    kernels : dict
        Kernel of each convolution step, by the step's output.
    lists : dict
        The lists that are built of a value, by its name: groups in a block, by the number of channels in a group.
    slots : dict
        The place of every stored value by its name, and of its lists by :func:`lists_of`; bytes are
        those of one image.
    arena_bytes : int
        Memory of all values of one image.
    orders : dict
        Channel order of stored values, by name: position to the graph's channel. Others keep the graph's.
    tuned : bool
        Whether kernels and orders are those that ``nybble tune`` found, not the defaults.
    """

    graph: Graph
    isa: str
    steps: list[Step]
    values: dict[str, Value]
    kernels: dict[str, Kernel]
    lists: dict[str, dict[int, int]] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    arena_bytes: int = 0
    orders: dict[str, Order] = field(default_factory=dict)
    tuned: bool = False

    def __str__(self) -> str:
        lines = [
            f"{self.isa}, {'tuned' if self.tuned else 'not tuned'}, {len(self.steps)} steps, "
            f"arena {self.arena_bytes / 1024:.0f} KiB an image"
        ]
        for step in self.steps:
            kernel = self.kernels.get(step.output)
            how = f"{kernel.method} x{kernel.block_outputs}" if kernel else step.kind
            sums = f", sums up to {step.sum_bound}" if step.sum_bound else ""
            names = " + ".join(node.name for node in step.nodes)
            slot = self.slots[step.output]
            lines.append(f"{names}: {', '.join(step.reads)} -> {step.result} [{how}{sums}] @{slot.offset}")
        return "\n".join(lines)


def lists_of(name: str, group: int) -> str:
    """Name of the slot that holds a value's lists of non-zero channels, or of groups of two or four."""
    return f"{name}#{_LISTS[group]}"
