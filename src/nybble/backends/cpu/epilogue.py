"""The epilogue of a step: what it does with its sums before it stores them."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import rule_of
from nybble.backends.cpu.order import Order
from nybble.lower import Step

Spec = _native.ConvSpec | _native.PointSpec | _native.MulSpec


def set_epilogue(spec: Spec, step: Step, order: Order | slice) -> None:
    """Copy the step's ReLU, requantize and table into a native specification."""
    if step.relu is not None:
        spec.relu = True
        if step.relu.maximum is not None:
            spec.relu_maximum = step.relu.maximum
    if step.quantize is not None:
        spec.requantize = True
        spec.rule = rule_of(step.quantize, order)
        if step.negative_factor is not None:
            spec.negative = step.negative_factor.numpy()[order].tolist()
    if step.table is not None:
        spec.table = step.table.table.numpy().tolist()
