"""Compiled fake quantizers give the values and gradients of the plain ones."""

from __future__ import annotations

import shutil

import pytest
import torch

from nybble.graph import DType
from nybble.quantize.fake.fused import fused, suits
from nybble.quantize.fake.quantizers import ActivationQuantizer

pytestmark = pytest.mark.skipif(
    not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")), reason="needs a C++ compiler"
)


def both(dtype: DType, method: str, x: torch.Tensor, upstream: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    found = []
    for enabled in (False, True):
        quantizer = ActivationQuantizer("x", dtype, method)  # type: ignore[arg-type]
        quantizer.set_range(0.7)
        quantizer.mode = "quantize"
        leaf = x.clone().requires_grad_()
        with fused(enabled):
            assert suits(leaf, quantizer.step()) == enabled
            y = quantizer(leaf)
            y.backward(upstream)
        found.append((y.detach(), leaf.grad, *([quantizer.scale.grad] if method == "lsq" else [])))
    return found


@pytest.mark.parametrize("method", ["ste", "lsq"])
@pytest.mark.parametrize("dtype", [DType.U4, DType.U7, DType.S4, DType.S8])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_same_values_and_gradients(method: str, dtype: DType, layout: torch.memory_format) -> None:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(3, 7, 17, 19, generator=random).contiguous(memory_format=layout)
    # Ties, ends and zeros too.
    step = 0.7 / dtype.maximum
    x[0, 0, 0, :6] = torch.tensor([0.5, 1.5, -0.5, dtype.maximum, dtype.minimum, 0.0]) * step
    upstream = torch.randn(x.shape, generator=random)
    plain, compiled = both(dtype, method, x, upstream)
    assert torch.equal(plain[0], compiled[0])
    assert torch.equal(plain[1], compiled[1])
    assert compiled[0].stride() == x.stride()
    if method == "lsq":
        torch.testing.assert_close(plain[2], compiled[2], rtol=1e-3, atol=1e-5)


def test_what_does_not_suit() -> None:
    step = torch.tensor(0.1)
    large = torch.zeros(100, 100)
    assert not suits(large, step)
    with fused(True):
        assert suits(large, step)
        with fused(False):
            assert suits(large, step)
        assert not suits(large[:10, :10], step)
        assert not suits(large[:, ::2], step)
        assert not suits(large.to(torch.bfloat16), step)
        assert not suits(large, torch.ones(100, 1))
    assert not suits(large, step)
