"""What to do about operators that are not supported."""

from __future__ import annotations

from nybble.graph.onnx.elements import FUNCTIONS

_QDQ = "quantize with quant_format=QuantFormat.QDQ"
_FUNCTION = (
    "of one activation any function can be: put QuantizeLinear and DequantizeLinear before it (quantize what it reads)"
)
REMEDIES = {
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "ConvInteger", "MatMulInteger"), _QDQ),
    **dict.fromkeys(FUNCTIONS, _FUNCTION),
    **dict.fromkeys(("Sigmoid", "HardSigmoid"), f"{_FUNCTION}; cut one at the end off with onnx.utils.extract_model"),
    "Gather": "it can only look up the entries of a table by the codes of an activation",
    **dict.fromkeys(("ArgMax", "TopK"), "cut the file behind the logits with onnx.utils.extract_model"),
    "DynamicQuantizeLinear": "quantize statically (onnxruntime.quantization.quantize_static)",
}


def unsupported(operator: str) -> str:
    """The text for an operator that has no form here."""
    remedy = REMEDIES.get(operator, "the engine has no such layer; take it out of the network, or replace it")
    return f"operator {operator[:60]} is not supported: {remedy}"
