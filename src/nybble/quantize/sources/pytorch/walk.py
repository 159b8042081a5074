"""From a program of ``torch.export`` to the operations of a :class:`FloatNetwork`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export.graph_signature import OutputKind
from torch.fx import Node

from nybble import graph
from nybble.quantize.errors import CaptureError
from nybble.quantize.ir.float_network import INPUT, FloatNetwork, Op, Result, Weighted
from nybble.quantize.ir.fold import join_limits
from nybble.quantize.ir.vocabulary import STACKED, Made, MadeStack, Stack, Translation, Unsupported, settled
from nybble.quantize.ops import rewrite
from nybble.quantize.sources.moved import Moved, settled_images, stacked
from nybble.quantize.sources.pytorch.aten_calls import IGNORED, reads_stacks, translate
from nybble.quantize.sources.pytorch.moves import follow, moves
from nybble.quantize.sources.pytorch.source_lines import frames_of_trace, user_line
from nybble.quantize.sources.pytorch.tail import copy_of, host_node, read_by, tail_of, views_of

#: Images of the example batch. One would be confused with extents of 1.
BATCH = 2


class Walk:
    """Follows the exported program and collects operations.

    Parameters
    ----------
    program
        What ``torch.export.export`` returned.
    input_shape : tuple of int
        (C, H, W).
    kind : str
        The name of the module in errors without a line of the user's code.
    prefix : str
        Of the names of its modules and parameters; it is left out.
    outputs : sequence of str
        Names of several outputs, in their order; empty for one.
    """

    def __init__(
        self,
        program: Any,
        input_shape: tuple[int, int, int],
        kind: str,
        prefix: str = "",
        outputs: Sequence[str] = (),
    ) -> None:
        self._program = program
        self._outputs = outputs
        self._network = FloatNetwork(input_shape)
        self._kind = kind
        self._prefix = prefix
        self._device = next((entry.device for entry in program.state_dict.values()), None)
        #: What each node holds: a value, or a constant.
        self._held: dict[Node, Any] = {}
        #: Stacks of what they hold as elements that were moved.
        self._stacks: dict[Node, Stack] = {}
        #: Names of parameters and buffers by the node that holds them, transposed perhaps.
        self._owners: dict[Node, str] = {}
        self._keys: set[str] = {INPUT}

    def network(self) -> FloatNetwork:
        """The operations that the result needs."""
        constants, owners = self._constants()
        entry = Translation(INPUT, self._network.input_shape)
        results = self._results() if self._outputs else []
        tail = tail_of(results)
        on_host = set(tail)
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._held[node] = constants.get(node.name, entry)
                if node.name in owners:
                    self._owners[node] = owners[node.name]
            elif node in on_host:
                continue
            elif node.op == "output" and results:
                return self._finish_several(results, tail)
            elif node.op == "output":
                return self._finish(node)
            else:
                self._visit(node)
        raise CaptureError(f"{self._kind}: returns nothing; it must return logits (N, classes)")

    def _constants(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Parameters, buffers and constants by placeholder, and their names; what is left over is the input."""
        program = self._program
        found: dict[str, Tensor] = {}
        owners: dict[str, str] = {}
        for spec in program.graph_signature.input_specs:
            if spec.target is None:
                continue
            if spec.target in program.state_dict:
                found[spec.arg.name] = program.state_dict[spec.target].detach()
                owners[spec.arg.name] = self._short(spec.target)
            else:
                found[spec.arg.name] = program.constants[spec.target].detach()
        return found, owners

    def _visit(self, node: Node) -> None:
        if node.target in IGNORED:
            return
        if not any(isinstance(self._held[entry], Translation | Stack | Moved) for entry in node.all_input_nodes):
            self._held[node] = self._evaluated(node)
            return
        target = str(node.target)
        if "getitem" in target:
            source, index = node.args
            results = self._held[source]
            if not isinstance(results, tuple):
                # Others that return several tensors are captured by their first.
                results = (results,)
            if index >= len(results):
                raise self._unsupported(node, "only the first of its results can be used", source)
            self._held[node] = results[index]
            return
        read = self._read(node, stacks=reads_stacks(target) and not moves(node))
        args = torch.fx.node.map_arg(node.args, read.__getitem__)
        kwargs = torch.fx.node.map_arg(node.kwargs, read.__getitem__)
        shape = _shape(node)
        before = next((held for held in read.values() if isinstance(held, Moved)), None)
        try:
            if any(isinstance(held, Stack) for held in read.values()) and not reads_stacks(target):
                raise Unsupported(STACKED)
            if before is not None:
                raise Unsupported(before.why)
            result = translate(target, tuple(args), dict(kwargs), shape)
        except Unsupported as error:
            why = self._unsupported(node, str(error))
            moved = follow(node, args, BATCH, str(why))
            if moved is None:
                raise (why if before is None else CaptureError(before.why)) from None
            self._hold_moved(node, moved)
            return
        if isinstance(result, MadeStack):
            self._held[node] = result.settled(lambda part: self._settled(node, part))
            return
        if isinstance(result, Tensor | Stack):
            self._held[node] = result
            return
        ended = any(isinstance(held, Translation) and held.ending for held in read.values())
        results = result if isinstance(result, tuple) else (result,)
        if ended and not all(isinstance(entry, Translation) for entry in results):
            raise self._unsupported(node, "nothing can be computed from a softmax; it can be left out at the end only")
        values = tuple(self._settled(node, entry) for entry in results)
        if values[0].shape != shape:
            raise AssertionError(f"{self._place(node)}: {target} gives {shape}, but was captured as {values[0].shape}")
        self._held[node] = values if isinstance(result, tuple) else values[0]

    def _read(self, node: Node, *, stacks: bool) -> dict[Node, Any]:
        """What a call reads; with ``stacks``, elements that are images side by side as a stack of these."""
        held = {entry: self._held[entry] for entry in node.all_input_nodes}
        for entry, value in held.items() if stacks else ():
            if isinstance(value, Moved) and entry not in self._stacks:
                found = stacked(value, BATCH)
                if found is None:
                    continue
                settle = functools.partial(self._settled, entry)
                self._stacks[entry] = found.settled(settle)
        return {**held, **({entry: self._stacks[entry] for entry in held if entry in self._stacks} if stacks else {})}

    def _hold_moved(self, node: Node, moved: Moved | tuple[Moved, ...]) -> None:
        """Store elements that a call moved, as images if they form images again."""
        held: list[Any] = []
        for part in moved if isinstance(moved, tuple) else (moved,):
            found = settled_images(part, BATCH)
            held.append(part if found is None else self._settled(node, found))
        self._held[node] = tuple(held) if isinstance(moved, tuple) else held[0]

    def _settled(self, node: Node, result: Op | Made | Translation) -> Translation:
        place = self._place(node)

        def add(op: Op) -> str:
            op.name = self._name(node, op)
            op.place = place
            # Constants that were made of numbers are on the module's device.
            op.to(self._device)
            self._network.ops.append(op)
            return op.name

        return settled(result, add)

    def _evaluated(self, node: Node) -> Any:
        """The value of an operation on constants alone."""
        args = torch.fx.node.map_arg(node.args, lambda entry: self._held[entry])
        kwargs = torch.fx.node.map_arg(node.kwargs, lambda entry: self._held[entry])
        if not callable(node.target):
            raise self._unsupported(
                node, f"{node.op} is not an operation on tensors; take control flow out of the module"
            )
        owners = {self._owners[entry] for entry in node.all_input_nodes if entry in self._owners}
        if len(owners) == 1:
            self._owners[node] = owners.pop()
        with torch.no_grad():
            return node.target(*args, **kwargs)

    def _unsupported(self, node: Node, why: str, operation: Any = None) -> CaptureError:
        path = self._module(node)[0]
        within = f" (module {path})" if path else ""
        target = getattr(operation, "target", node.target)
        return CaptureError(f"{self._place(node)}{within}: {target} cannot be captured: {why}")

    def _place(self, node: Node) -> str:
        """The source line behind a node, as ``file:line: code``."""
        return user_line(frames_of_trace(node.meta.get("stack_trace"))) or self._kind

    def _module(self, node: Node) -> tuple[str, str]:
        """Name and type of the module that called."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", "")
        return self._short(path), str(getattr(kind, "__module__", None) or kind)

    def _short(self, path: str) -> str:
        return "" if path == self._prefix else path.removeprefix(f"{self._prefix}.")

    def _name(self, node: Node, op: Op) -> str:
        """The name of the module that owns the weights, else of the module that called, told from its like."""
        path, kind = self._module(node)
        owner = ""
        if isinstance(op, Weighted):
            weights = [entry for entry in node.all_input_nodes if _is_matrix(self._held[entry])]
            owner = next((self._owners[entry] for entry in weights if entry in self._owners), "")
        if owner and owner != "weight":
            name = owner.removesuffix(".weight")
        elif path and kind.startswith("torch.nn.modules") and "container" not in kind:
            name = path
        else:
            name = f"{path}.{_op_name(node)}" if path else _op_name(node)
        return self._free(name)

    def _free(self, name: str) -> str:
        # Names of files and of modules: what differs only in a dot must not meet there.
        count, candidate = 1, name
        while candidate.replace(".", "_") in self._keys:
            count += 1
            candidate = f"{name}_{count}"
        self._keys.add(candidate.replace(".", "_"))
        return candidate

    def _results(self) -> list[Node]:
        """What the module returns, without buffers that it changes."""
        program = self._program
        (node,) = (node for node in program.graph.nodes if node.op == "output")
        kinds = [spec.kind for spec in program.graph_signature.output_specs]
        return [entry for entry, kind in zip(node.args[0], kinds, strict=True) if kind is OutputKind.USER_OUTPUT]

    def _finish_several(self, results: Sequence[Node], tail: Sequence[Node]) -> FloatNetwork:
        """The network of several outputs: a result for each value that the host takes over."""
        network = self._network
        labels: dict[Node, str] = {}
        for name, node in zip(self._outputs, results, strict=True):
            labels.setdefault(node, name)
        read = [entry for node in tail for entry in read_by(node)]
        nodes: list[graph.Node] = []
        for node in dict.fromkeys((*read, *results)):
            if node not in tail:
                nodes += self._return(node, labels.setdefault(node, self._free(f"{node.name}.value")))
        shapes = {name: _shape(node) for node, name in labels.items()}
        for node in tail:
            name = labels.setdefault(node, self._free(f"{node.name}.value"))
            nodes.append(host_node(node, name, [labels[entry] for entry in read_by(node)]))
            shapes[name] = _shape(node)
        for name, node in zip(self._outputs, results, strict=True):
            if labels[node] != name:
                nodes.append(copy_of(name, labels[node], shapes))
        network.tail, network.outputs = tuple(nodes), tuple(self._outputs)
        network.prune(network.output)
        rewrite(network)
        join_limits(network)
        return network

    def _return(self, node: Node, label: str) -> list[graph.Node]:
        """Add a result called ``label``; what the host does where readers see it in another shape or order."""
        value = self._held[node]
        if isinstance(value, Moved):
            raise CaptureError(value.why)
        if not isinstance(value, Translation) or value.name == INPUT:
            raise CaptureError(f"{self._kind}: its output {label} does not depend on its input, or is its input")
        if value.ending:
            raise CaptureError(f"{self._place(node)}: one softmax can be left out, at the end of a classifier")
        is_own = value.shape == value.extents and value.is_natural
        held = label if is_own else self._free(f"{label}.value")
        place = f"{self._kind}: output {label}"
        name = self._free(f"{label}.result")
        self._network.ops.append(Result(name=name, inputs=(value.name,), shape=value.extents, place=place, label=held))
        return [] if is_own else views_of(value, label, held, self._free(f"{label}.order"))

    def _finish(self, node: Node) -> FloatNetwork:
        # A module of ours returns one tensor; what else there is are buffers, or the input, changed in place.
        kinds = [spec.kind for spec in self._program.graph_signature.output_specs]
        (result,) = (entry for entry, kind in zip(node.args[0], kinds, strict=True) if kind is OutputKind.USER_OUTPUT)
        value = self._held[result] if isinstance(result, Node) else None
        if isinstance(value, Moved):
            raise CaptureError(value.why)
        if not isinstance(value, Translation) or value.name == INPUT:
            raise CaptureError(f"{self._kind}: its result does not depend on its input, or is its input")
        if not value.is_natural:
            raise CaptureError(f"{self._place(result)}: the result is transposed; it must be logits (N, classes)")
        self._network.prune(value.name)
        self._network.ending = value.ending
        rewrite(self._network)
        join_limits(self._network)
        return self._network


def _shape(node: Node) -> tuple[int, ...]:
    value = node.meta["val"]
    if isinstance(value, tuple | list):
        value = value[0]
    return tuple(int(extent) for extent in value.shape[1:])


def _is_matrix(held: Any) -> bool:
    return isinstance(held, Tensor) and held.dim() >= 2


def _op_name(node: Any) -> str:
    return str(getattr(node, "target", node)).removeprefix("aten.").split(".")[0].strip("_")
