"""Fusion: which nodes of a graph become one step."""

from __future__ import annotations

from nybble.graph import Add, Conv2d, DType, Graph, Linear, Node, Quantize, ReLU
from nybble.graph.types import ACTIVATIONS
from nybble.lower.step import Step


def fuse(graph: Graph) -> list[Step]:
    """Steps in an order in which each reads only stored values.

    A convolution or linear layer takes along the addition, ReLU and Quantize that alone read it, in
    that order; so does an addition or a ReLU that has no convolution to join. A rescaled shortcut whose
    own clamp can do nothing is rescaled where it is added, from the value that is stored anyway.

    A node of an operation that is not known here is a step of kind ``other``: backends that have it may run it.
    """
    return _Fuser(graph).steps()


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.consumers = graph.consumers()
        self.order = {node.name: i for i, node in enumerate(graph.nodes)}
        self.taken: set[str] = set()

    def steps(self) -> list[Step]:
        # Convolutions first, so that additions join them where they can; of two that meet in an
        # addition the later one takes it: the other is stored by then.
        weighted = [node for node in self.graph if isinstance(node, Conv2d | Linear)]
        others = [node for node in self.graph if not isinstance(node, Conv2d | Linear)]
        steps = [self._step(node) for node in (*reversed(weighted), *others) if node.name not in self.taken]
        steps.sort(key=lambda step: max(self.order[node.name] for node in step.nodes))
        return steps

    def _step(self, head: Node) -> Step:
        step = Step(graph=self.graph, head=head, source=head.inputs[0], output=head.name, nodes=[head])
        if isinstance(head, Conv2d | Linear | Add | ReLU):
            self._extend(step)
        elif isinstance(head, Quantize):
            step.quantize = head
        self.taken.update(node.name for node in step.nodes)
        heads = (step.source,) if isinstance(head, Add) else head.inputs
        step.reads = [*heads, *([step.shortcut] if step.shortcut is not None else [])]
        return step

    def _extend(self, step: Step) -> None:
        node: Node | None = step.head
        if isinstance(node, Add):
            step.add = node
            step.shortcut = node.inputs[1]
        elif isinstance(node, ReLU):
            step.relu = node
        elif isinstance((following := self._only_reader(step.output)), Add) and len(set(following.inputs)) == 2:
            other = following.inputs[1 - following.inputs.index(step.output)]
            step.add = following
            self._take_shortcut(step, other)
            self._take(step, following)
        if step.relu is None and isinstance((following := self._only_reader(step.output)), ReLU):
            step.relu = following
            self._take(step, following)
        if isinstance((following := self._only_reader(step.output)), Quantize):
            step.quantize = following
            self._take(step, following)

    def _take(self, step: Step, node: Node) -> None:
        step.nodes.append(node)
        step.output = node.name

    def _take_shortcut(self, step: Step, name: str) -> None:
        step.shortcut = name
        node = self.graph[name] if name in self.order else None
        if not isinstance(node, Quantize) or self._only_reader(name) is None or name in self.taken:
            return
        source = self.graph.values[node.inputs[0]]
        is_input = node.inputs[0] not in self.order
        clamp_is_idle = node.output_type is DType.S32 or not source.dtype.is_signed
        # Graph inputs are stored without channel padding, which a shortcut needs.
        if node.output_type in ACTIVATIONS or source.dtype not in ACTIVATIONS or is_input or not clamp_is_idle:
            return
        step.shortcut = node.inputs[0]
        step.shortcut_quantize = node
        step.nodes.append(node)

    def _only_reader(self, name: str) -> Node | None:
        readers = self.consumers[name]
        if len(readers) != 1 or name in self.graph.outputs or readers[0].name in self.taken:
            return None
        return readers[0]
