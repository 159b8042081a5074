"""Gradients through the fake quantizers, as training sees them, against closed forms and finite differences."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from nybble.graph import DType
from nybble.quantize.fake.quantizers import ActivationQuantizer, WeightQuantizer


def values(seed: int, shape: tuple[int, ...], spread: float) -> torch.Tensor:
    """Away from rounding's and clipping's jumps, where a derivative exists."""
    random = np.random.default_rng(seed)
    whole = random.integers(-20, 21, size=shape)
    return torch.from_numpy((whole + random.uniform(-0.4, 0.4, size=shape)) * spread).float()


@given(st.integers(0, 10_000), st.sampled_from([DType.U4, DType.S4, DType.U7, DType.S8]), st.floats(0.01, 10))
def test_straight_through(seed: int, dtype: DType, step: float) -> None:
    quantizer = ActivationQuantizer("x", dtype)
    quantizer.set_range(step * dtype.maximum)
    quantizer.mode = "quantize"
    x = values(seed, (6, 7), step).requires_grad_()
    upstream = torch.randn(6, 7, generator=torch.Generator().manual_seed(seed))
    quantizer(x).backward(upstream)
    scaled = x.detach().double() / float(quantizer.step().detach())
    inside = (scaled > dtype.minimum) & (scaled < dtype.maximum)
    torch.testing.assert_close(x.grad, upstream * inside)


@given(st.integers(0, 10_000), st.sampled_from([DType.U4, DType.S4]))
def test_learned_step_of_an_activation(seed: int, dtype: DType) -> None:
    quantizer = ActivationQuantizer("x", dtype, "lsq")
    quantizer.set_range(0.3 * dtype.maximum)
    quantizer.mode = "quantize"
    x = values(seed, (5, 4, 3, 3), 0.3).requires_grad_()
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    quantizer(x).backward(upstream)
    v = x.detach().double() / float(quantizer.step().detach())
    low, high = dtype.minimum, dtype.maximum
    # Esser et al. 2020, equation 3; the gradient's scale after section 2.2, with the features of one image.
    slope = torch.where(v <= low, low, torch.where(v >= high, high, torch.round(v) - v))
    expected = (slope * upstream).sum() / (4 * 3 * 3 * high) ** 0.5
    torch.testing.assert_close(quantizer.scale.grad.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x.grad, upstream * ((v > low) & (v < high)))


def test_the_step_s_gradient_is_a_finite_difference_of_what_it_stands_for() -> None:
    # With codes held fixed for values inside, and the identity subtracted: f(s) = s * clip(round(v)) - (x - s v).
    quantizer = WeightQuantizer(3, 4, "lsq")
    quantizer.set_range(torch.tensor([0.7, 1.4, 2.1]))
    quantizer.mode = "quantize"
    w = (values(1, (3, 2, 3, 3), 1.0) * quantizer.scale.detach()[:, None, None, None]).requires_grad_()
    upstream = torch.randn(w.shape, generator=torch.Generator().manual_seed(2))
    quantizer(w).backward(upstream)
    step = quantizer.scale.detach().double()[:, None, None, None]
    v = w.detach().double() / step
    outside = v.abs() >= 7

    def output(change: float) -> torch.Tensor:
        # Outside the range the output is the clip itself, whose derivative is a true one.
        inside = v.round() * (step + change) - v * change
        return torch.where(outside, v.sign() * 7 * (step + change), inside)

    slope = (output(1e-4) - output(-1e-4)) / 2e-4
    expected = (slope * upstream).sum(dim=(1, 2, 3)) / (2 * 3 * 3 * 7) ** 0.5
    torch.testing.assert_close(quantizer.scale.grad.double(), expected, rtol=1e-4, atol=1e-5)


def test_outside_the_range_gradients_are_true_ones() -> None:
    # There the output is smooth in the step, so plain finite differences of the quantizer itself apply.
    quantizer = ActivationQuantizer("x", DType.U4, "lsq")
    quantizer.set_range(1.5)
    quantizer.mode = "quantize"
    x = torch.tensor([[[[1.9, 2.5, -0.3, 7.0]]]])
    quantizer(x).sum().backward()
    found = float(quantizer.scale.grad) * (4 * 15) ** 0.5
    with torch.no_grad():
        results = []
        for change in (1e-3, -1e-3):
            quantizer.scale.add_(change)
            results.append(float(quantizer(x).double().sum()))
            quantizer.scale.sub_(change)
    assert abs(found - (results[0] - results[1]) / 2e-3) < 1e-2
