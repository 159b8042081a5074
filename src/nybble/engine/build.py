"""From a plan to a native program: values, packed weights, steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from nybble import _native
from nybble.engine.layout import ELEMENTS, stored_shape
from nybble.engine.order import Order
from nybble.engine.plan import Plan, lists_of
from nybble.engine.rows import LIST_GROUPS, window
from nybble.graph import Conv2d, Linear, Preprocessing, Quantize, Scale
from nybble.graph.types import ACTIVATIONS, Array
from nybble.lower import Pool, Step


class Built:
    """A native program, the ids of its values and lists by name, and what each call needs to know of arrays.

    Between two calls on batches of one, Python's own code is no longer in the caches, so that little of it costs much.
    """

    def __init__(self, plan: Plan, threads: int, most_images: int) -> None:
        self.plan = plan
        self.graph = plan.graph
        self.program = _native.Program(
            isa=plan.isa, threads=threads, most_images=most_images, arena_bytes=plan.arena_bytes
        )
        self.ids: dict[str, int] = {}
        self.step_names: list[str] = []
        source = self.graph.inputs[0].name
        self.input_shape = stored_shape(self.graph, source)
        self.photo_shape = (*self.input_shape[1:], self.input_shape[0])
        self._buffers: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._table: Array | None = None
        self.program.set_input(self._value(source, tight=True))
        for step in plan.steps:
            self._add(step)
        self.program.set_output(self.ids[self.graph.outputs[0]])

    def _value(self, name: str, tight: bool = False) -> int:
        element = ELEMENTS[self.graph.values[name].dtype]
        offset = self.plan.slots[name].offset
        self.ids[name] = self.program.add_value(element, *stored_shape(self.graph, name), tight, offset)
        return self.ids[name]

    def _add(self, step: Step) -> None:
        if (head := step.weighted) is not None:
            self._add_conv(step, head)
        elif (pool := step.pool) is not None:
            self._add_pool(step, pool)
        elif (scale := step.scale) is not None:
            self._add_scale(step, scale)
        elif step.kind == "concat":
            self._add_concat(step)
        else:
            self._add_point(step)

    def _output(self, name: str) -> tuple[int, list[int]]:
        """The value that a step writes, and the lists of it that it builds."""
        value = self._value(name)
        self.step_names.append(name)
        lists = []
        for group, block in self.plan.lists.get(name, {}).items():
            key = lists_of(name, group)
            self.ids[key] = self.program.add_lists(value, group, block, self.plan.slots[key].offset)
            self.step_names.append(key)
            lists.append(self.ids[key])
        return value, lists

    def _add_conv(self, step: Step, head: Conv2d | Linear) -> None:
        kernel = self.plan.kernels[step.output]
        place = window(self.graph, head)
        spec = _native.ConvSpec()
        spec.input = self.ids[step.source]
        if group := LIST_GROUPS.get(kernel.method):
            spec.lists = self.ids[lists_of(step.source, group)]
        spec.method = kernel.method
        spec.magnitude = step.input.dtype.magnitude
        spec.block_outputs = kernel.block_outputs
        spec.tile_pixels = kernel.tile_pixels
        spec.visit_bytes = kernel.visit_bytes
        spec.kernel_h, spec.kernel_w = place.kernel
        spec.stride_h, spec.stride_w = place.stride
        spec.pad_top, spec.pad_left = place.padding.top, place.padding.left
        spec.dilation_h, spec.dilation_w = place.dilation
        spec.groups = place.groups
        outputs = self.plan.orders.get(step.output, slice(None))
        inputs = self.plan.orders.get(step.source, slice(None))
        if head.bias is not None:
            spec.bias = head.bias.numpy()[outputs].tolist()
        if step.shortcut is not None:
            spec.shortcut = self.ids[step.shortcut]
            shortcut = self.graph.values[step.shortcut]
            if shortcut.dtype in ACTIVATIONS:
                spec.shortcut_magnitude = max(1, shortcut.magnitude)
            if step.shortcut_quantize is not None:
                spec.shortcut_requantize = True
                spec.shortcut_rule = _rule(step.shortcut_quantize, outputs)
        _set_epilogue(spec, step, outputs)
        # Of a linear layer the flat order of a (C, H, W) input is that of a kernel which covers it.
        weights = head.weight.numpy().reshape(head.weight.shape[0], -1, *place.kernel)
        spec.output, spec.output_lists = self._output(step.output)
        self.program.add_conv(spec, np.ascontiguousarray(weights[outputs][:, inputs]))

    def _add_pool(self, step: Step, pool: Pool) -> None:
        spec = _native.PoolSpec()
        spec.input = self.ids[step.source]
        spec.kernel_h, spec.kernel_w = pool.kernel_size
        spec.stride_h, spec.stride_w = pool.stride
        spec.pad_top, spec.pad_left, spec.pad_bottom, spec.pad_right = pool.padding
        if pool.average:
            spec.average = True
            spec.count_padding = pool.count_padding
        else:
            spec.dilation_h, spec.dilation_w = pool.dilation
        spec.output, spec.output_lists = self._output(step.output)
        self.program.add_pool(spec)

    def _add_concat(self, step: Step) -> None:
        spec = _native.ConcatSpec()
        spec.inputs = [self.ids[name] for name in step.reads]
        spec.output, spec.output_lists = self._output(step.output)
        self.program.add_concat(spec)

    def _add_scale(self, step: Step, head: Scale) -> None:
        spec = _native.ScaleSpec()
        spec.input = self.ids[step.source]
        spec.scale = head.out_scale.numpy().tolist()
        spec.output, _ = self._output(step.output)
        self.program.add_scale(spec)

    def _add_point(self, step: Step) -> None:
        order = self.plan.orders.get(step.output, slice(None))
        spec = _native.PointSpec()
        spec.input = self.ids[step.source]
        if step.shortcut is not None:
            spec.other = self.ids[step.shortcut]
        _set_epilogue(spec, step, order)
        spec.output, spec.output_lists = self._output(step.output)
        self.program.add_point(spec)

    def restore(self, name: str, values: Array) -> Array:
        """(N, ...) elements of a value as the engine stores them, in the graph's channel order."""
        order = self.plan.orders.get(name)
        if order is None:
            return values
        restored = np.empty_like(values)
        restored[:, order] = values
        return restored

    def buffer(self, name: str, images: int) -> Array:
        """An array for a value of so many images, in the graph's shape and the type's storage."""
        if name not in self._buffers:
            value = self.graph.values[name]
            self._buffers[name] = (value.shape, value.dtype.storage)
        shape, dtype = self._buffers[name]
        return np.empty((images, *shape), dtype)

    def table(self, preprocessing: Preprocessing) -> Array:
        """The bytes of the table from 8-bit samples to the network's input."""
        if self._table is None:
            self._table = preprocessing.table().view(np.uint8)
        return self._table


def _set_epilogue(spec: _native.ConvSpec | _native.PointSpec, step: Step, order: Order | slice) -> None:
    """The ReLU and the requantize that a step takes along."""
    if step.relu is not None:
        spec.relu = True
        if step.relu.maximum is not None:
            spec.relu_maximum = step.relu.maximum
    if step.quantize is not None:
        spec.requantize = True
        spec.rule = _rule(step.quantize, order)


def _rule(node: Quantize, order: Order | slice) -> _native.Requantize:
    rule = _native.Requantize()
    rule.factor = node.factor.numpy()[order].tolist()
    rule.shift = node.shift
    rule.low, rule.high = node.output_type.minimum, node.output_type.maximum
    return rule
