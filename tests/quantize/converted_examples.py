"""The examples of every registered float operation, quantized once for all tests of a process that look at them."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from nybble.graph import Graph
from nybble.quantize import calibrate, convert, prepare
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.ops import operations
from nybble.quantize.ops.examples import FloatExample

EXAMPLES = [
    pytest.param(found, id=f"{type(operation).__name__}-{found.name}")
    for operation in operations()
    for found in operation.examples()
]


def images(example: FloatExample, count: int = 5) -> Tensor:
    return torch.randn(count, *example.shape, generator=torch.Generator().manual_seed(1))


@functools.cache
def converted(example: FloatExample) -> tuple[QuantizedNetwork, Graph]:
    """The calibrated network, which tests leave as it is but for its mode, and its integer network."""
    network = prepare(example.module, example.shape)
    calibrate(network, [images(example)])
    return network, convert(network)[0]
