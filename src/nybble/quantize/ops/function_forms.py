"""Activation functions and other functions of one number, as ATen and ONNX call them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nybble.quantize.ir.elementwise import Function
from nybble.quantize.ir.vocabulary import Made, Result, Translation, Unsupported, value_of
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, constant_of, tensor_of

forms = Forms()


def of_one(x: Any, function: Callable[..., Tensor], label: str) -> Result:
    """A function of a value."""
    value = value_of(x)
    return Made(
        (Function(name="", inputs=(value.name,), shape=value.extents, function=function, label=label),), value.axes
    )


def of_two(left: Translation, right: Translation, function: Callable[..., Tensor], label: str) -> Result:
    """A function of two values of one shape: a part of what has to become a function of one."""
    if left.extents != right.extents or left.layout() != right.layout():
        raise Unsupported(f"{label} of two values needs them in one shape")
    op = Function(name="", inputs=(left.name, right.name), shape=left.extents, function=function, label=label)
    return Made((op,), left.axes)


# ATen calls some arguments as Python calls its own functions, and some results round on the way.


def _hard_sigmoid(x: Tensor, *, alpha: float = 1 / 6, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def _hard_swish(x: Tensor) -> Tensor:
    return x * _hard_sigmoid(x)


def _softsign(x: Tensor) -> Tensor:
    return x / (1 + x.abs())


def _swish(x: Tensor, *, alpha: float) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def _thresholded(x: Tensor, *, alpha: float) -> Tensor:
    return torch.where(x > alpha, x, 0.0)


def _elu(x: Tensor, *, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    return scale * torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0.0) * input_scale))


def _prelu(x: Any, weight: Any) -> Result | None:
    slope = torch.as_tensor(weight)
    if slope.numel() > 1 and not bool((slope == slope.reshape(-1)[0]).all()):
        return None
    if slope.numel() == 0:
        raise Unsupported("it lacks its slope")
    negative = float(slope.reshape(-1)[0])
    return of_one(x, partial(functional.leaky_relu, negative_slope=negative), "PReLU")


def _power(x: Any, exponent: Any) -> Result:
    value = torch.as_tensor(exponent)
    if value.numel() != 1:
        raise Unsupported("powers with several exponents have no integer form; one table serves all channels")
    return of_one(x, partial(torch.pow, exponent=float(value)), "Pow")


#: Functions without arguments: of ATen, of ONNX, what computes them, and what they are called.
_PLAIN: tuple[tuple[str, str, Callable[..., Tensor], str], ...] = (
    ("abs.default", "Abs", torch.abs, "Abs"),
    ("erf.default", "Erf", torch.erf, "Erf"),
    ("exp.default", "Exp", torch.exp, "Exp"),
    ("expm1.default", "", torch.expm1, "Expm1"),
    ("hardsigmoid.default", "", _hard_sigmoid, "HardSigmoid"),
    ("hardswish.default", "HardSwish", _hard_swish, "HardSwish"),
    ("log.default", "Log", torch.log, "Log"),
    ("log1p.default", "", torch.log1p, "Log1p"),
    ("log_sigmoid.default", "", functional.logsigmoid, "LogSigmoid"),
    ("log_sigmoid_forward.default", "", functional.logsigmoid, "LogSigmoid"),
    ("mish.default", "Mish", functional.mish, "Mish"),
    ("reciprocal.default", "Reciprocal", torch.reciprocal, "Reciprocal"),
    ("rsqrt.default", "", torch.rsqrt, "Rsqrt"),
    ("sigmoid.default", "Sigmoid", torch.sigmoid, "Sigmoid"),
    ("silu.default", "", functional.silu, "SiLU"),
    ("", "Softsign", _softsign, "Softsign"),
    ("sqrt.default", "Sqrt", torch.sqrt, "Sqrt"),
    ("tanh.default", "Tanh", torch.tanh, "Tanh"),
)


def _register_plain() -> None:
    for aten, onnx, function, label in _PLAIN:
        if aten:
            forms.aten(aten)(partial(_aten_plain, function, label))
        if onnx:
            forms.onnx(onnx)(partial(_onnx_plain, function, label))


def _aten_plain(function: Callable[..., Tensor], label: str, shape: tuple[int, ...], x: Any) -> Result:
    return of_one(x, function, label)


def _onnx_plain(function: Callable[..., Tensor], label: str, node: Any, x: Value) -> Result:
    return of_one(x, function, label)


_register_plain()


@forms.aten("leaky_relu.default")
def _leaky_relu(shape: tuple[int, ...], x: Any, negative_slope: float = 0.01) -> Result:
    return of_one(x, partial(functional.leaky_relu, negative_slope=negative_slope), "LeakyReLU")


@forms.aten("gelu.default")
def _gelu(shape: tuple[int, ...], x: Any, *, approximate: str = "none") -> Result:
    return of_one(x, partial(functional.gelu, approximate=approximate), "GELU")


@forms.aten("elu.default")
def _aten_elu(
    shape: tuple[int, ...], x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> Result:
    return of_one(x, partial(_elu, alpha=alpha, scale=scale, input_scale=input_scale), "ELU")


@forms.aten("celu.default")
def _celu(shape: tuple[int, ...], x: Any, alpha: float = 1.0) -> Result:
    return of_one(x, partial(_elu, alpha=alpha, input_scale=1 / alpha), "CELU")


@forms.aten("selu.default")
def _selu(shape: tuple[int, ...], x: Any) -> Result:
    return of_one(x, functional.selu, "SELU")


@forms.aten("softplus.default")
def _softplus(shape: tuple[int, ...], x: Any, beta: float = 1.0, threshold: float = 20.0) -> Result:
    return of_one(x, partial(functional.softplus, beta=beta, threshold=threshold), "Softplus")


@forms.aten("prelu.default", "_prelu_kernel.default")
def _aten_prelu(shape: tuple[int, ...], x: Any, weight: Any) -> Result | None:
    return _prelu(x, weight)


@forms.aten("pow.Tensor_Scalar")
def _pow(shape: tuple[int, ...], x: Any, exponent: float) -> Result:
    return _power(x, exponent)


@forms.aten("div.Tensor", "true_divide.Tensor")
def _divided(shape: tuple[int, ...], left: Any, right: Any) -> Result | None:
    if not isinstance(right, Translation):
        return None
    return _over(left, right)


@forms.onnx("HardSigmoid")
def _onnx_hard_sigmoid(node: Any, x: Value) -> Result:
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    return of_one(x, partial(_hard_sigmoid, alpha=alpha, beta=beta), "HardSigmoid")


@forms.onnx("LeakyRelu")
def _onnx_leaky_relu(node: Any, x: Value) -> Result:
    return of_one(x, partial(functional.leaky_relu, negative_slope=float(node.get("alpha", 0.01))), "LeakyReLU")


@forms.onnx("Gelu")
def _onnx_gelu(node: Any, x: Value) -> Result:
    given = node.get("approximate", "none")
    approximate = given.decode() if isinstance(given, bytes) else str(given)
    if approximate not in ("none", "tanh"):
        raise Unsupported(f"approximate={approximate[:20]!r} is not known; it is none or tanh")
    return of_one(x, partial(functional.gelu, approximate=approximate), "GELU")


@forms.onnx("Elu")
def _onnx_elu(node: Any, x: Value) -> Result:
    return of_one(x, partial(_elu, alpha=float(node.get("alpha", 1.0))), "ELU")


@forms.onnx("Celu")
def _onnx_celu(node: Any, x: Value) -> Result:
    alpha = float(node.get("alpha", 1.0))
    if alpha == 0:
        raise Unsupported("its alpha is 0")
    return of_one(x, partial(_elu, alpha=alpha, input_scale=1 / alpha), "CELU")


@forms.onnx("Selu")
def _onnx_selu(node: Any, x: Value) -> Result:
    alpha, gamma = float(node.get("alpha", 1.67326319217681884765625)), float(node.get("gamma", 1.0507009873554805))
    return of_one(x, partial(_elu, alpha=alpha, scale=gamma), "SELU")


@forms.onnx("Softplus")
def _onnx_softplus(node: Any, x: Value) -> Result:
    return of_one(x, functional.softplus, "Softplus")


@forms.onnx("Swish")
def _onnx_swish(node: Any, x: Value) -> Result:
    return of_one(x, partial(_swish, alpha=float(node.get("alpha", 1.0))), "Swish")


@forms.onnx("ThresholdedRelu")
def _onnx_thresholded(node: Any, x: Value) -> Result:
    return of_one(x, partial(_thresholded, alpha=float(node.get("alpha", 1.0))), "ThresholdedReLU")


@forms.onnx("PRelu")
def _onnx_prelu(node: Any, x: Value, slope: Value) -> Result | None:
    return _prelu(x, tensor_of(constant_of(slope, "its slope")))


@forms.onnx("Pow")
def _onnx_power(node: Any, x: Value, exponent: Value) -> Result:
    return _power(x, tensor_of(constant_of(exponent, "its exponent")))


@forms.onnx("Div")
def _onnx_divided(node: Any, left: Value, right: Value) -> Result | None:
    if not isinstance(right, Translation):
        return None
    return _over(left if isinstance(left, Translation) else tensor_of(constant_of(left, "what it divides")), right)


def _over(left: Any, right: Translation) -> Result:
    if isinstance(left, Translation):
        return of_two(left, right, torch.div, "Div")
    numerator = torch.as_tensor(left)
    if numerator.numel() != 1:
        raise Unsupported("what is divided differs by channel; one table serves all channels")
    return of_one(right, partial(_quotient, numerator=float(numerator)), "Div")


def _quotient(x: Tensor, *, numerator: float) -> Tensor:
    return numerator / x
