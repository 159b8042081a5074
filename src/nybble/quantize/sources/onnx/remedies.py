"""What to do about ONNX operators that no operation knows."""

from __future__ import annotations

from nybble.quantize.ir.vocabulary import remedies
from nybble.quantize.ops import onnx_operators
from nybble.quantize.ops.function_forms import forms

_REMEDIES = {
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
    known = ", ".join(sorted(onnx_operators() - forms.of_onnx.keys()))
    return (
        f"supported are {known}, functions of one number such as Sigmoid and HardSwish, and what computes constants; "
        "change the network or cut the file"
    )
