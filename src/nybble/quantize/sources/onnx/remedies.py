"""What to do about ONNX operators that no operation knows."""

from __future__ import annotations

from nybble.quantize.ir.vocabulary import remedies
from nybble.quantize.ops import onnx_operators

_ACTIVATIONS = "Celu Elu Erf Gelu HardSwish LeakyRelu Mish PRelu Selu Softplus Softsign Swish Tanh"
_REMEDIES = {
    **dict.fromkeys(_ACTIVATIONS.split(), remedies.ACTIVATION),
    **dict.fromkeys(("Sigmoid", "HardSigmoid"), remedies.SIGMOID),
    **dict.fromkeys(("ArgMax", "TopK"), remedies.CHOICE),
    **dict.fromkeys(
        ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear"),
        "the file is quantized already: `nybble import` reads it; quantize from the float network",
    ),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LayerNormalization", "LRN"), remedies.NORM),
}


def remedy(op: str, domain: str = "") -> str:
    """What to do about an operator that no operation knows."""
    if op in _REMEDIES:
        return _REMEDIES[op]
    if domain:
        return f"operators of {domain[:60]} are unknown; save the file without optimizing it for a runtime"
    known = ", ".join(sorted(onnx_operators()))
    return f"supported are {known}, and what computes constants; change the network or cut the file"
