"""Rounding to codes: the activation quantizer, Quantize nodes, and the logits' Scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from nybble import graph
from nybble.graph.rescale import rescale
from nybble.graph.types import ACTIVATIONS, SUMS, Array
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.quantizers import ActivationQuantizer, number
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.pad import copied
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration


#: A multiplier that rounds to a factor of 0 at the published shifts: of channels that a factor of 0 silences.
_SILENT = 2.0**-19


#: Steps that a graph leaves open lie between these. What is chosen follows the step before it, so that in a deep
#: network it may grow or shrink from layer to layer until float32 does not hold it.
_LEAST_STEP, _LARGEST_STEP = 2.0**-16, 2.0**16


class Rounding(FloatOperation):
    """From sums, or codes of another step, to codes. In the float ir nothing rounds."""

    modules = (ActivationQuantizer,)
    nodes = (graph.Quantize,)

    def convert(self, module: ActivationQuantizer, step: Step, conversion: Conversion) -> None:
        """Codes have one unit for all channels."""
        (source,) = step.inputs
        if source in conversion.deferred:
            conversion.deferred[source](module, step)
            return
        reads = conversion.type_of(source)
        factors = np.broadcast_to(conversion.units[source], reads.shape[:1]) / number(module.step())
        reach = np.minimum(float(module.dtype.magnitude), reads.magnitude * factors)
        shift = module.shifts.get(step.name, module.shift)
        chosen = rescale(factors, reach, tolerance=conversion.tolerance, shift=shift)
        conversion.units[step.name] = number(module.step())
        conversion.values[step.name] = conversion.quantize(step.name, conversion.values[source], module.dtype, chosen)

    def restore(self, node: graph.Quantize, restoration: Restoration) -> None:
        """A quantizer, or the padding that a convolution before it copies codes for."""
        if node.output_type in SUMS:
            return
        source = node.inputs[0]
        before = restoration.nodes.get(source)
        if before is not None and (copy := copied(before, restoration)) is not None:
            restoration.quantizers[node.name] = restoration.quantizers[before.inputs[0]]
            restoration.append(node, copy, before.inputs[0])
            return
        quantizer = restoration.quantizer(node.name, node.output_type, node.shift)
        restoration.append(node, quantizer, source)

    def copied_from(self, node: graph.Quantize, restoration: Restoration) -> str | None:
        """The input of a convolution before it that only copies codes."""
        before = restoration.nodes.get(node.inputs[0])
        if before is None or copied(before, restoration) is None:
            return None
        return before.inputs[0]

    def step_of(self, node: graph.Quantize, restoration: Restoration) -> float:
        """Chosen here, unless it only copies codes."""
        source = self.copied_from(node, restoration)
        if source is not None:
            return restoration.scale(source)
        if restoration.graph.values[node.inputs[0]].dtype in ACTIVATIONS:
            # Codes that are rounded once more.
            return float(np.float32(restoration.scale(node.inputs[0]) / median(multiplier(node))))
        # float32, as the quantizer will hold it.
        return float(np.float32(held(restoration.chosen_scale(node))))

    def unit_of_sums(self, node: graph.Quantize, restoration: Restoration) -> Array | None:
        """The unit follows from its multiplier and the step of its result."""
        return multiplier(node) * restoration.scale(node.name)


class Logits(FloatOperation):
    """The Scale that makes logits of sums; conversion puts it at the end by itself."""

    nodes = (graph.Scale,)

    def restore(self, node: graph.Scale, restoration: Restoration) -> None:
        """Adds nothing: the sums are the network's result."""
        if node.name != restoration.graph.outputs[0]:
            raise QuantizeError(f"{node.name}: a Scale that is not the output cannot be restored")

    def unit_of_sums(self, node: graph.Scale, restoration: Restoration) -> Array | None:
        """The reciprocals of the scales."""
        return scale_units(node)


def scale_units(node: graph.Scale) -> Array:
    """(K,): what units of the sums stand for that a Scale reads.

    Raises
    ------
    QuantizeError
        If a scale is negative.
    """
    units: Array = 1.0 / node.out_scale.numpy().astype(np.float64)
    if np.any(units < 0):
        raise QuantizeError(f"{node.name}: a negative out_scale cannot be restored")
    return units


def is_rescaling(node: graph.Node) -> TypeGuard[graph.Quantize]:
    """Whether a node brings codes into the unit of sums."""
    return isinstance(node, graph.Quantize) and node.output_type in SUMS


def is_rounding(node: graph.Node) -> TypeGuard[graph.Quantize]:
    """Whether a node is a Quantize."""
    return isinstance(node, graph.Quantize)


def is_logits(node: graph.Node) -> TypeGuard[graph.Scale]:
    """Whether a node makes logits of sums."""
    return isinstance(node, graph.Scale)


def multiplier(node: graph.Quantize) -> Array:
    """(K,) float64: factors over the shift's power; silent channels get one that rounds to a factor of 0."""
    values: Array = node.factor.numpy().astype(np.float64) / 2.0**node.shift
    if node.output_type in ACTIVATIONS:
        values = np.where(values > 0, values, _SILENT * 2.0 ** (16 - node.shift))
    return values


def held(step: float) -> float:
    """The step to take where the graph leaves it open: one that float32 holds, however deep the network is."""
    return min(max(step, _LEAST_STEP), _LARGEST_STEP)


def median(values: Array) -> float:
    """Of those above zero; 1 where there are none."""
    alive = values[values > 0]
    return float(np.median(alive)) if len(alive) else 1.0


register(Rounding())
register(Logits())
