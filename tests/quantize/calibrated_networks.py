"""Drawn networks with quantizers whose ranges come from a few images."""

from __future__ import annotations

import functools

import float_networks
import torch
from torch import Tensor

from nybble.graph import Preprocessing
from nybble.quantize.config import Bits, QuantizeConfig
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.ir.float_network import FloatNetwork
from nybble.quantize.ir.fold import fold
from nybble.quantize.lower.snap import snap_steps
from nybble.quantize.prepare.prepare import prepare_captured
from nybble.quantize.sources.pytorch.capture import capture


@functools.cache
def captured(name: str) -> tuple[FloatNetwork, tuple[int, int, int]]:
    """Recording takes longest."""
    module, shape = float_networks.make(name)
    return fold(capture(module, shape)), shape


def calibrated(name: str, bits: Bits, method: str = "ste", *, snapped: bool = True, preset: bool = True):
    """A network with ranges from its own images, in mode ``quantize``, and its input's shape."""
    network, shape = captured(name)
    preprocessing = Preprocessing(crop=shape[1:], resize=40) if preset else None
    network = prepare_captured(network, QuantizeConfig(bits=bits, method=method), preprocessing)
    set_ranges(network, float_networks.images(shape, 8, 7))
    if snapped:
        snap_steps(network)
    network.set_mode("quantize")
    return network, shape


def set_ranges(network: QuantizedNetwork, x: Tensor) -> None:
    for quantizer in network.activation_quantizers().values():
        quantizer.observer = lambda values, quantizer=quantizer: quantizer.set_range(float(values.abs().max()) * 0.9)
    with torch.no_grad():
        network(x)
    for quantizer in network.activation_quantizers().values():
        quantizer.observer = None
