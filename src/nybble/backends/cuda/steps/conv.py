"""Convolutions and linear layers: as matrix products, or group by group."""

from __future__ import annotations

import numpy as np

from nybble.backends.cuda import structures
from nybble.backends.cuda.builder import Builder, is_narrow, padded_channels
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.kernels import ConvKernel, candidates, choose
from nybble.backends.cuda.kinds import KINDS, StepKind
from nybble.backends.cuda.packing import pack_channels, pack_groups, pack_matrix
from nybble.backends.errors import EngineError
from nybble.lower import Conv, Step


class ConvKind(StepKind):
    """Of one group: a tile of a matrix product a block. Of several: eight channels of a pixel a thread."""

    kind = "conv"

    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """One kernel."""
        conv = step.body_as(Conv)
        return [_matrix(step, conv, builder) if conv.groups == 1 else _groups(step, conv, builder)]


def kernels_of(step: Step, builder: Builder) -> list[ConvKernel]:
    """The kernels that can run a convolution of one group."""
    window = step.body_as(Conv).window
    one_tap = tuple(window.kernel_size) == (1, 1) and not any(window.padding)
    return candidates(builder.stored(step.input), one_tap, is_narrow(step))


def _chosen(step: Step, builder: Builder) -> ConvKernel:
    found = kernels_of(step, builder)
    wanted = builder.plan.kernels.get(step.output)
    if wanted is None:
        return choose(found, builder.pixels(step.result), step.result.shape[0])
    for kernel in found:
        if kernel.name == wanted:
            return kernel
    raise EngineError(f"{step.output}: {wanted} cannot run it; these can: {', '.join(one.name for one in found)}")


def _bias(step: Step, conv: Conv, builder: Builder, count: int) -> int:
    values = np.zeros(0) if conv.bias is None else conv.bias.numpy()
    return builder.constants.add(pack_channels(values, np.int32, count))


def _matrix(step: Step, conv: Conv, builder: Builder) -> Launch:
    kernel = _chosen(step, builder)
    source, result = builder.stored(step.input), builder.stored(step.result)
    # Whole tiles: kernels do not ask where the columns end. Every channel that is stored is one of them.
    columns = padded_channels(result)
    window = builder.window(conv.window, step.input, step.result)
    geometry = {name: getattr(window, name) for name, *_ in structures.Window._fields_}
    rows = builder.pixels(step.result)
    params = structures.ConvParams(
        epilogue=builder.epilogue(step),
        input=builder.address(step.input),
        weights=builder.constants.add(pack_matrix(conv, source, columns)),
        bias=_bias(step, conv, builder, columns),
        input_bytes=source.pixel_bytes,
        rows=rows,
        **geometry,
    )
    return Launch(kernel.name, kernel.grid(rows, result.pitch), params)


def _groups(step: Step, conv: Conv, builder: Builder) -> Launch:
    result = builder.stored(step.result)
    outputs, inputs = conv.weights().shape[:2]
    params = structures.GroupedParams(
        epilogue=builder.epilogue(step),
        input=builder.tensor(step.input),
        weights=builder.constants.add(pack_groups(conv, result.pitch)),
        bias=_bias(step, conv, builder, padded_channels(result)),
        window=builder.window(conv.window, step.input, step.result),
        pixels=builder.pixels(step.result),
        group_inputs=inputs,
        group_outputs=outputs // conv.groups,
    )
    is_depthwise = inputs == 1 and outputs == conv.groups
    return Launch("layer_depthwise" if is_depthwise else "layer_grouped", builder.layer_grid(step.result), params)


KINDS.register(ConvKind())
