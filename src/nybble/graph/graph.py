"""A network as data: typed nodes in SSA order, checked when the graph is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from nybble.graph.errors import GraphError
from nybble.graph.infer import infer, infer_input
from nybble.graph.nodes import Input, Node
from nybble.graph.preprocessing import Preprocessing
from nybble.graph.task import Task
from nybble.graph.value_type import ValueType


class Graph:
    """Nodes in an order in which each reads only earlier values.

    Parameters
    ----------
    inputs : sequence of Input
    nodes : sequence of Node
        Node names, input names included, are unique.
    outputs : sequence of str
        Names of the values the network returns.
    preprocessing : Preprocessing, optional
        How a photo becomes the single input, whose type and shape it must produce. ``None`` if unknown.
    class_names : sequence of str, optional
        One line of text for each class: for each channel of the first output, or as many as the task has.
    task : Task, optional
        The meaning of the outputs. ``None`` if unknown.

    Raises
    ------
    GraphError
        On a name defined twice or not defined before use, a shape or type mismatch, a sum that could exceed
        2**31 - 1, or preprocessing, class names or a task that do not fit.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        nodes: Sequence[Node],
        outputs: Sequence[str],
        *,
        preprocessing: Preprocessing | None = None,
        class_names: Sequence[str] | None = None,
        task: Task | None = None,
    ) -> None:
        self.inputs = tuple(inputs)
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)
        self.preprocessing = preprocessing
        self.class_names = tuple(class_names) if class_names is not None else None
        self.task = task
        self._values = MappingProxyType(_check(self.inputs, self.nodes, self.outputs))
        if self.preprocessing is not None:
            _check_preprocessing(self.preprocessing, self.inputs)
        if self.task is not None:
            _check_task(self.task, self.outputs)
        if self.class_names is not None:
            _check_class_names(self.class_names, *self._class_count())
        self._by_name = {node.name: node for node in self.nodes}

    @property
    def values(self) -> Mapping[str, ValueType]:
        """Type, shape and magnitude of every value, inputs included, by name."""
        return self._values

    def _class_count(self) -> tuple[int | None, str]:
        """The number of classes, and a text that says where it comes from."""
        if self.task is None:
            count = self._values[self.outputs[0]].shape[0]
            return count, f"the output has {count} channels"
        known = self.task.class_count(self._values)
        return known, f"the task {self.task.kind} has {'no' if known is None else known} classes"

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value, by the value's name; a node that reads it twice is listed twice."""
        readers: dict[str, list[Node]] = {name: [] for name in self._values}
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node)
        return readers

    def __str__(self) -> str:
        entries = [f"{entry.name}: {self._values[entry.name]} = input" for entry in self.inputs]
        nodes = [f"{node.name}: {self._values[node.name]} = {node.op}({', '.join(node.inputs)})" for node in self.nodes]
        return "\n".join([*entries, *nodes, f"return {', '.join(self.outputs)}"])

    def __repr__(self) -> str:
        inputs = [entry.name for entry in self.inputs]
        return f"<Graph: {len(self.nodes)} nodes, inputs {inputs}, outputs {list(self.outputs)}>"


def _check(inputs: tuple[Input, ...], nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> dict[str, ValueType]:
    values: dict[str, ValueType] = {}
    if not inputs:
        raise GraphError("the graph has no input")
    if not outputs:
        raise GraphError("the graph has no output", field="outputs")
    for entry in inputs:
        if entry.name in values:
            raise GraphError("the name is defined twice", node=entry.name)
        values[entry.name] = infer_input(entry)
    defined = {node.name for node in nodes}
    for node in nodes:
        if node.name in values:
            raise GraphError("the name is defined twice", node=node.name)
        for name in node.inputs:
            if name not in values:
                why = "is defined only later (a cycle, or nodes out of order)" if name in defined else "is not defined"
                raise GraphError(f"reads {name!r}, which {why}", node=node.name, field="inputs")
        values[node.name] = infer(node, [values[name] for name in node.inputs])
    for name in outputs:
        if name not in values:
            raise GraphError(f"output {name!r} is not defined", field="outputs")
    return values


def _check_preprocessing(preprocessing: Preprocessing, inputs: tuple[Input, ...]) -> None:
    made = (preprocessing.input_type, (len(preprocessing.mean), *preprocessing.crop))
    if len(inputs) != 1 or (inputs[0].dtype, inputs[0].shape) != made:
        takes = ", ".join(f"{entry.dtype} {entry.shape}" for entry in inputs)
        raise GraphError(f"preprocessing makes {made[0]} {made[1]}, but the graph takes {takes}", field="preprocessing")


def _check_task(task: Task, outputs: tuple[str, ...]) -> None:
    for name in task.reads():
        if name not in outputs:
            raise GraphError(
                f"the task {task.kind} reads {name[:40]!r}, which is not an output (outputs: {', '.join(outputs)})",
                field="task",
            )


def _check_class_names(names: tuple[str, ...], count: int | None, says: str) -> None:
    for name in names:
        # Lines of a file hold them; a lone surrogate has no UTF-8 form.
        if not name.strip() or "\n" in name or "\r" in name or any("\ud800" <= char <= "\udfff" for char in name):
            raise GraphError(f"class name {name!r} is empty or no single line of text", field="class_names")
    if len(names) != count:
        raise GraphError(f"{len(names)} class names, but {says}", field="class_names")
