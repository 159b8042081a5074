"""Fusion: which nodes of a graph become one step."""

from __future__ import annotations

from typing import Any

from nybble.graph import Graph, Node
from nybble.graph.macs import macs
from nybble.graph.types import SUMS
from nybble.lower.base import LOWERINGS, Fusion, Lowering
from nybble.lower.step import Step


def fuse(graph: Graph) -> list[Step]:
    """Steps in an order in which each reads only stored values.

    A step includes the nodes behind its head, each the only reader of the one before, as far as the
    :class:`~nybble.lower.base.Lowering` of the head allows: a convolution includes an addition, a ReLU, a Quantize and
    a Table, in that order. A shortcut that is rescaled without an effective clamp is rescaled where it is added, from
    the value that is stored anyway. This also applies to both operands of an addition that no convolution includes.

    A node for which no lowering is registered is a step of kind ``other``: backends that have it may run it.
    """
    fusion = Fusion(graph)
    order = {node.name: i for i, node in enumerate(graph.nodes)}
    # Heads that can include additions come first. If two of them meet in an addition, the later one includes it: the
    # result of the other is stored by then. Heads that can include operands follow, before the operands become steps.
    adding: list[tuple[Node, Lowering[Any] | None]] = []
    taking: list[tuple[Node, Lowering[Any] | None]] = []
    others: list[tuple[Node, Lowering[Any] | None]] = []
    for node in graph:
        lowering = LOWERINGS.get(type(node))
        if lowering is not None and "add" in lowering.epilogue:
            adding.append((node, lowering))
        else:
            is_taking = lowering is not None and type(lowering).take_operands is not Lowering.take_operands
            (taking if is_taking else others).append((node, lowering))
    heads = (*reversed(adding), *taking, *others)
    steps = [_step(fusion, *head) for head in heads if head[0].name not in fusion.taken]
    steps.sort(key=lambda step: max(order[node.name] for node in step.nodes))
    return steps


def _step(fusion: Fusion, head: Node, lowering: Lowering[Any] | None) -> Step:
    inputs = [fusion.value(name) for name in head.inputs]
    step = Step("other", head, [head], inputs, fusion.value(head.name))
    if lowering is not None:
        step.kind, step.channels = lowering.kind, lowering.channels
        lowering.begin(head, step)
        lowering.take_operands(head, step, fusion)
        for part in lowering.epilogue:
            _take(fusion, step, part)
    fusion.taken.update(node.name for node in step.nodes)
    step.macs = sum(macs(fusion.graph, node) for node in step.nodes)
    step.sum_bound = _sum_bound(fusion, step)
    return step


def _take(fusion: Fusion, step: Step, part: str) -> None:
    following = fusion.only_reader(step.output)
    lowering = LOWERINGS.get(type(following)) if following is not None else None
    if following is None or lowering is None or lowering.part != part:
        return
    if lowering.join(following, step, fusion):
        step.nodes.append(following)
        step.result = fusion.value(following.name)


def _sum_bound(fusion: Fusion, step: Step) -> int:
    sums = [node.name for node in step.nodes if node is not step.quantize]
    values = [*step.inputs, *(fusion.value(name) for name in sums)]
    return max((value.magnitude for value in values if value.dtype in SUMS), default=0)
