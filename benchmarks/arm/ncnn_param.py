"""The same network for ncnn in INT8: its layers as a ``.param`` file, without weights.

The format is that of https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure, the numbers of a layer's
parameters are in https://github.com/Tencent/ncnn/wiki/operation-param-weight-table. Which layers hand bytes on to the
next (``int8_scale_term`` above 100) is decided as ncnn's own quantizer, ``ncnn2int8``, does: convolutions whose result
only convolutions read.
"""

from __future__ import annotations

from collections import Counter

from nybble.graph import Graph
from nybble.lower import Conv, Pool, Step, Value, fuse

#: ``int8_scale_term``: scales of weights for each output, or for each group of a depthwise layer.
_DENSE, _DEPTHWISE, _BYTES_GO_ON = 2, 1, 100
_FIRST_LINE = "7767517"


class Param:
    """Layers as they are written; ncnn wants a Split where several layers read one blob."""

    def __init__(self, graph: Graph) -> None:
        self.steps = fuse(graph)
        self.readers = Counter(name for step in self.steps for name in step.reads)
        self.lines: list[str] = []
        self.blobs = 0
        self._parts: dict[str, list[str]] = {}
        (entry,) = graph.inputs
        channels, height, width = entry.shape
        self.layer("Input", "input", [], entry.name, f"0={width} 1={height} 2={channels}")
        self.split(entry.name)

    def layer(self, kind: str, name: str, inputs: list[str], output: str, parameters: str = "") -> None:
        """One layer of one result."""
        self.blobs += 1
        inputs = [self._parts[each].pop() if self._parts.get(each) else each for each in inputs]
        self.lines.append(f"{kind} {name} {len(inputs)} 1 {' '.join([*inputs, output])} {parameters}".rstrip())

    def split(self, name: str) -> None:
        """Give every reader of a value a blob of its own."""
        count = self.readers[name]
        if count < 2:
            return
        parts = [f"{name}_split_{i}" for i in range(count)]
        self.blobs += count
        self.lines.append(f"Split {name}_split 1 {count} {name} {' '.join(parts)}")
        self._parts[name] = parts

    def text(self) -> str:
        """The file."""
        return "\n".join([_FIRST_LINE, f"{len(self.lines)} {self.blobs}", *self.lines, ""])


def ncnn_param(graph: Graph) -> tuple[str, str]:
    """The ``.param`` of a network of convolutions, pools and additions, and the name of its result.

    Raises
    ------
    ValueError
        On another kind of step.
    """
    param = Param(graph)
    result = ""
    for step in param.steps:
        if step.kind == "scale":  # of the sums, which ncnn's last layer does itself
            continue
        if step.kind == "conv":
            _convolution(param, step)
        elif step.kind == "pool":
            _pool(param, step)
        else:
            raise ValueError(f"{step.output}: a step of kind {step.kind} is not written for ncnn")
        param.split(step.output)
        result = step.output
    return param.text(), result


def _convolution(param: Param, step: Step) -> None:
    conv = step.body_as(Conv)
    outputs = step.result.shape[0]
    relu = int(step.relu is not None)
    name = step.output if step.add is None else f"{step.output}_sums"
    activation = 0 if step.add is not None else relu
    scale_term = _DEPTHWISE if conv.groups > 1 else _DENSE
    count = conv.weights().size
    if _covers(step.input, conv):
        parameters = f"0={outputs} 1=1 2={count} 8={scale_term} 9={activation}"
        param.layer("InnerProduct", name, [step.source], name, parameters)
    else:
        if _bytes_go_on(param, step):
            scale_term += _BYTES_GO_ON
        window, kind = conv.window, "Convolution"
        top, left, bottom, right = window.padding
        parameters = (
            f"0={outputs} 1={window.kernel_size.columns} 11={window.kernel_size.rows} 2={window.dilation.columns} "
            f"12={window.dilation.rows} 3={window.stride.columns} 13={window.stride.rows} 4={left} 14={top} 15={right} "
            f"16={bottom} 5=1 6={count} 8={scale_term} 9={activation}"
        )
        if conv.groups > 1:
            kind, parameters = "ConvolutionDepthWise", f"{parameters} 7={conv.groups}"
        param.layer(kind, name, [step.source], name, parameters)
    if step.add is None:
        return
    shortcut = step.shortcut
    if shortcut is None:
        raise ValueError(f"{step.output}: an addition without a second value")
    total = f"{step.output}_total" if relu else step.output
    param.layer("BinaryOp", total, [name, shortcut.name], total, "0=0")
    if relu:
        param.layer("ReLU", step.output, [total], step.output)


def _covers(value: Value, conv: Conv) -> bool:
    """Whether a layer is linear, or does the same."""
    return value.shape[1:] in ((), tuple(conv.window.kernel_size)) and conv.groups == 1


def _bytes_go_on(param: Param, step: Step) -> bool:
    """Whether only convolutions read the result, and not as a shortcut."""
    if step.add is not None:
        return False
    readers = [each for each in param.steps if step.output in each.reads]
    return bool(readers) and all(
        each.conv is not None
        and each.source == step.output
        and not _covers(each.input, each.conv)
        and (each.shortcut is None or each.shortcut.name != step.output)
        for each in readers
    )


def _pool(param: Param, step: Step) -> None:
    pool = step.body_as(Pool)
    window = pool.window
    kind = int(pool.average)
    if step.input.shape[1:] == tuple(window.kernel_size):
        param.layer("Pooling", step.output, [step.source], step.output, f"0={kind} 4=1")
        return
    top, left, bottom, right = window.padding
    parameters = (
        f"0={kind} 1={window.kernel_size.columns} 11={window.kernel_size.rows} 2={window.stride.columns} "
        f"12={window.stride.rows} 3={left} 13={top} 14={right} 15={bottom} 5=1 6={int(pool.count_padding)}"
    )
    param.layer("Pooling", step.output, [step.source], step.output, parameters)
