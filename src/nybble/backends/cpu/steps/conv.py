"""Convolutions and linear layers."""

from __future__ import annotations

import numpy as np

from nybble import _native
from nybble.backends.cpu.builder import Builder, rule_of
from nybble.backends.cpu.epilogue import set_epilogue
from nybble.backends.cpu.kernel import LIST_GROUPS, Kernel, choose_kernel
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.backends.cpu.plan import lists_of
from nybble.graph.types import ACTIVATIONS
from nybble.lower import Conv, Step


class ConvKind(StepKind):
    """Convolutions on the CPU. The kernel of each comes from the table of kernels."""

    kind = "conv"

    def kernel(self, step: Step, isa: str) -> Kernel | None:
        """The default by types, shapes and weights."""
        return choose_kernel(step, isa)

    def add(self, step: Step, builder: Builder) -> None:
        """Pass the weights in the channel orders of input and output."""
        conv = step.body_as(Conv)
        kernel = builder.plan.kernels[step.output]
        spec = _native.ConvSpec()
        spec.input = builder.ids[step.source]
        if group := LIST_GROUPS.get(kernel.method):
            spec.lists = builder.ids[lists_of(step.source, group)]
        spec.method = kernel.method
        spec.magnitude = step.input.dtype.magnitude
        spec.clip_low, spec.clip_high = step.input.clipped
        spec.block_outputs = kernel.block_outputs
        spec.tile_pixels = kernel.tile_pixels
        spec.visit_bytes = kernel.visit_bytes
        window = conv.window
        spec.kernel_h, spec.kernel_w = window.kernel_size
        spec.stride_h, spec.stride_w = window.stride
        spec.pad_top, spec.pad_left = window.padding.top, window.padding.left
        spec.dilation_h, spec.dilation_w = window.dilation
        spec.groups = conv.groups
        outputs = builder.order(step.result)
        if conv.bias is not None:
            spec.bias = conv.bias.numpy()[outputs].tolist()
        if step.shortcut is not None:
            spec.shortcut = builder.ids[step.shortcut.name]
            if step.shortcut.dtype in ACTIVATIONS:
                spec.shortcut_magnitude = max(1, step.shortcut.magnitude)
            if step.shortcut_quantize is not None:
                spec.shortcut_requantize = True
                spec.shortcut_rule = rule_of(step.shortcut_quantize, outputs)
        set_epilogue(spec, step, outputs)
        spec.output, spec.output_lists = builder.output(step)
        weights = conv.weights()[outputs][:, builder.order(step.input)]
        builder.program.add_conv(spec, np.ascontiguousarray(weights))


KINDS.register(ConvKind())
