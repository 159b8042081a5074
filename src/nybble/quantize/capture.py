"""From an ``nn.Module`` to a :class:`FloatNetwork`, by way of ``torch.export``.

``torch.export`` runs the module's own Python once on stand-ins for tensors, so how a network is written (modules or
functions, padding computed on the way, in-place or not) does not matter: what arrives here are functional ATen
operations. Nothing here knows a network by name.
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from nybble.quantize.errors import CaptureError
from nybble.quantize.float_network import INPUT, FloatNetwork, Op, RecordedModule, Weighted
from nybble.quantize.translate import IGNORED, Translation, translate

_TORCH = f"{Path(torch.__file__).parent}{os.sep}"
_HERE = f"{Path(__file__).parent}{os.sep}"
#: Images of the example batch. One would be confused with extents of 1.
_BATCH = 2
#: Largest difference between module and captured network, relative to the largest logit.
_TOLERANCE = 1e-3


def capture(module: nn.Module, input_shape: tuple[int, int, int]) -> FloatNetwork:
    """Record what a network computes in evaluation mode.

    Parameters
    ----------
    module : nn.Module
        Takes one float32 tensor (N, C, H, W) and returns logits (N, classes). It is left as it was.
    input_shape : tuple of int
        (C, H, W). Shapes are fixed from here on.

    Returns
    -------
    FloatNetwork

    Raises
    ------
    CaptureError
        If an operation cannot be expressed, naming it and its source line, or if the recorded network does not give
        the module's answers.
    """
    if isinstance(module, RecordedModule):
        return module.recorded(input_shape)
    training = {name: child.training for name, child in module.named_modules()}
    module.eval()
    generator = torch.Generator().manual_seed(0)
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    example = torch.randn(_BATCH, *input_shape, generator=generator).to(device)
    try:
        program = _exported(module, example)
        network = _Walk(program, input_shape).network()
        _check(module, network, example)
    finally:
        for name, child in module.named_modules():
            child.training = training.get(name, child.training)
    return network


def _exported(module: nn.Module, example: Tensor) -> Any:
    with torch.no_grad(), _quiet():
        try:
            # Without decompositions this only makes every operation functional, aliases and all.
            return torch.export.export(module, (example,), strict=False).run_decompositions({})
        except Exception as error:  # Whatever the module's own code raises, too.
            place = _user_line(traceback.extract_tb(error.__traceback__))
            reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
            raise CaptureError(
                f"{place or type(module).__name__}: cannot be captured: {reason}; "
                "the network must take one tensor (N, C, H, W) and must not decide anything by its values"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own reports back: the error says what matters."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.fx.experimental.symbolic_shapes", "torch.export")]
    levels = [logger.level for logger in loggers]
    # A graph that fails is printed to stderr as well.
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _user_line(frames: traceback.StackSummary) -> str:
    """The innermost line that is neither torch's nor ours."""
    for frame in reversed(frames):
        if not frame.filename.startswith((_TORCH, _HERE, "<")):
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    return ""


def _check(module: nn.Module, network: FloatNetwork, example: Tensor) -> None:
    with torch.no_grad():
        expected = module(example).float()
    found = network(example)
    if found.numel() != expected.numel() or len(found) != len(expected):
        raise CaptureError(f"the output must be logits (N, classes), but has the shape {tuple(expected.shape)}")
    difference = float((found.reshape(expected.shape) - expected).abs().max())
    if not difference <= _TOLERANCE * max(1e-6, float(expected.abs().max())):
        raise CaptureError(
            f"the captured network's logits differ from the module's by {difference:.3g}: it does something that "
            "is not among its operations (random numbers, or values computed while it was recorded)"
        )


class _Walk:
    """Follows the exported program and collects operations."""

    def __init__(self, program: Any, input_shape: tuple[int, int, int]) -> None:
        self._program = program
        self._network = FloatNetwork(input_shape)
        #: What each node holds: the name of a value, or a constant.
        self._held: dict[Node, str | Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {INPUT: input_shape}
        #: Names of parameters and buffers by placeholder.
        self._owners: dict[str, str] = {}
        self._keys: set[str] = {INPUT}

    def network(self) -> FloatNetwork:
        constants = self._constants()
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._held[node] = constants.get(node.name, INPUT)
            elif node.op == "output":
                return self._finish(node)
            else:
                self._visit(node)
        raise CaptureError("the module returns nothing")

    def _constants(self) -> dict[str, Tensor]:
        """Parameters, buffers and constants by placeholder; what is left over is the input."""
        program = self._program
        found: dict[str, Tensor] = {}
        inputs = []
        for spec in program.graph_signature.input_specs:
            if spec.target is None:
                inputs.append(spec.arg.name)
            elif spec.target in program.state_dict:
                found[spec.arg.name] = program.state_dict[spec.target].detach()
                self._owners[spec.arg.name] = spec.target
            else:
                found[spec.arg.name] = program.constants[spec.target].detach()
        if len(inputs) != 1:
            raise CaptureError(f"the module takes {len(inputs)} inputs; it must take one tensor (N, C, H, W)")
        return found

    def _visit(self, node: Node) -> None:
        if node.target in IGNORED:
            return
        sources = [self._held[entry] for entry in node.all_input_nodes]
        if not any(isinstance(entry, str | Translation) for entry in sources):
            self._held[node] = self._evaluated(node)
            return
        place = self.place(node)
        if "getitem" in str(node.target):
            # Operations that return several tensors are captured by their first.
            source, index = node.args
            if index != 0 or not isinstance(source, Node):
                raise CaptureError(f"{place}: only the first result of {_op_name(source)} can be used")
            self._held[node] = self._held[source]
            return
        args = torch.fx.node.map_arg(node.args, lambda entry: self._wrapped(entry))
        kwargs = torch.fx.node.map_arg(node.kwargs, lambda entry: self._wrapped(entry))
        shape = self._shape(node)
        try:
            result = translate(str(node.target), tuple(args), dict(kwargs), shape)
        except CaptureError as error:
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            within = f" (module {stack[-1][0]})" if stack and stack[-1][0] else ""
            raise CaptureError(f"{place}{within}: {error}") from None
        if isinstance(result, Op):
            result.name = self._name(node, result)
            result.place = place
            self._network.ops.append(result)
            self._shapes[result.name] = shape
            self._held[node] = result.name
        else:
            self._held[node] = result.name

    def _wrapped(self, node: Node) -> Any:
        held = self._held[node]
        return Translation(held, self._shapes[held]) if isinstance(held, str) else held

    def _evaluated(self, node: Node) -> Any:
        """The value of an operation on constants alone."""
        args = torch.fx.node.map_arg(node.args, lambda entry: self._held[entry])
        kwargs = torch.fx.node.map_arg(node.kwargs, lambda entry: self._held[entry])
        if not callable(node.target):
            raise CaptureError(f"{self.place(node)}: {node.op} cannot be captured")
        with torch.no_grad():
            return node.target(*args, **kwargs)

    def _shape(self, node: Node) -> tuple[int, ...]:
        value = node.meta["val"]
        if isinstance(value, tuple | list):
            value = value[0]
        return tuple(int(extent) for extent in value.shape[1:])

    def place(self, node: Node) -> str:
        """The source line behind a node, as ``file:line: code``."""
        lines = (node.meta.get("stack_trace") or "").strip().split("\n")
        found = ""
        for head, code in itertools.pairwise(lines):
            words = head.strip().split('"')
            if len(words) == 3 and not words[1].startswith(_TORCH):
                found = f"{words[1]}:{words[2].split(',')[1].removeprefix(' line ')}: {code.strip()}"
        return found or str(node.target)

    def _name(self, node: Node, op: Op) -> str:
        """The name of the module that owns the weights, else of the module that called, told from its like."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", "")
        weight = node.args[1] if isinstance(op, Weighted) else None
        owner = self._owners.get(weight.name, "") if isinstance(weight, Node) else ""
        if owner and owner != "weight":
            name = owner.removesuffix(".weight")
        elif path and str(kind).startswith("torch.nn.modules") and "container" not in str(kind):
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

    def _finish(self, node: Node) -> FloatNetwork:
        results = list(torch.fx.node.map_arg(node.args[0], lambda entry: entry))
        if len(results) != 1 or not isinstance(results[0], Node):
            raise CaptureError(f"the module returns {len(results)} values; it must return logits (N, classes) alone")
        name = self._held[results[0]]
        if not isinstance(name, str) or name == INPUT:
            raise CaptureError("the module's result does not depend on its input, or is its input")
        _prune(self._network, name)
        return self._network


def _op_name(node: Any) -> str:
    return str(getattr(node, "target", node)).removeprefix("aten.").split(".")[0].strip("_")


def _prune(network: FloatNetwork, output: str) -> None:
    """Leave out what the output does not need."""
    needed = {output}
    for op in reversed(network.ops):
        if op.name in needed:
            needed.update(op.inputs)
    network.ops = [op for op in network.ops if op.name in needed]
