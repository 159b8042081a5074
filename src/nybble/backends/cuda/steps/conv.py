"""Convolutions and linear layers: as matrix products, or group by group."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np

from nybble.backends.cuda import structures
from nybble.backends.cuda.builder import Builder, padded_channels
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.kernels import ANY, ConvKernel, candidates, choose, join_candidates
from nybble.backends.cuda.kinds import KINDS, StepKind
from nybble.backends.cuda.packing import pack_channels, pack_groups, pack_matrix
from nybble.backends.cuda.plan import Run
from nybble.backends.cuda.rules import gives_codes
from nybble.backends.errors import EngineError
from nybble.lower import Conv, Step


class ConvKind(StepKind):
    """Convolutions on a GPU. One group: one tile of a matrix product per block. Several: eight channels per thread."""

    kind = "conv"

    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """One launch."""
        conv = step.body_as(Conv)
        return [_matrix(step, conv, builder) if conv.groups == 1 else _groups(step, conv, builder)]

    def joined(self, projection: Step, step: Step, builder: Builder) -> list[Launch]:
        """One launch for both."""
        kernel = _chosen(step, kernels_of(Run((projection, step)), builder), builder)
        columns = padded_channels(builder.stored(step.result))
        params = structures.JoinParams(
            conv=_product(step, builder.codes(replace(step, shortcut=None)), builder),
            projection=_product(projection, builder.addend(projection, step.shortcut_quantize, columns), builder),
        )
        return [_launch(kernel, step, params, builder)]


def kernels_of(run: Run, builder: Builder) -> list[ConvKernel]:
    """The kernels that can run a convolution of one group, with its projection if the run has one."""
    step = run.steps[-1]
    if run.has_projection:
        return join_candidates(builder.stored(step.input), builder.stored(run.steps[0].input))
    window = step.body_as(Conv).window
    one_tap = tuple(window.kernel_size) == (1, 1) and not any(window.padding)
    return candidates(builder.stored(step.input), one_tap, gives_codes(step, builder.plan.values))


def _chosen(step: Step, found: list[ConvKernel], builder: Builder) -> ConvKernel:
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
    kernel = _chosen(step, kernels_of(Run((step,)), builder), builder)
    epilogue = builder.epilogue(step) if kernel.rule == ANY else builder.codes(step)
    return _launch(kernel, step, _product(step, epilogue, builder), builder)


def _launch(kernel: ConvKernel, step: Step, params: ctypes.Structure, builder: Builder) -> Launch:
    return Launch(kernel.name, kernel.grid(builder.pixels(step.result), builder.stored(step.result).pitch), params)


def _product(step: Step, epilogue: structures.Epilogue, builder: Builder) -> structures.ConvParams:
    conv = step.body_as(Conv)
    source, result = builder.stored(step.input), builder.stored(step.result)
    # Whole tiles: kernels do not check where the columns end. The tiles contain every stored channel.
    columns = padded_channels(result)
    window = builder.window(conv.window, step.input, step.result)
    geometry = {name: getattr(window, name) for name, *_ in structures.Window._fields_}
    return structures.ConvParams(
        epilogue=epilogue,
        input=builder.address(step.input),
        weights=builder.constants.add(pack_matrix(conv, source, columns)),
        bias=_bias(step, conv, builder, columns),
        input_bytes=source.pixel_bytes,
        rows=builder.pixels(step.result),
        **geometry,
    )


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
