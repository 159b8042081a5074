"""What to do about operators that are not supported."""

from __future__ import annotations

_QDQ = "quantize with quant_format=QuantFormat.QDQ"
_ONLY_RELU = "of activation functions the engine has ReLU, with a maximum or without; replace it and train again"
REMEDIES = {
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "ConvInteger", "MatMulInteger"), _QDQ),
    **dict.fromkeys(("HardSwish", "Gelu", "Elu", "PRelu", "LeakyRelu", "Tanh"), _ONLY_RELU),
    **dict.fromkeys(("Sigmoid", "HardSigmoid"), f"{_ONLY_RELU}; cut one at the end off with onnx.utils.extract_model"),
    **dict.fromkeys(("ArgMax", "TopK"), "cut the file behind the logits with onnx.utils.extract_model"),
    "DynamicQuantizeLinear": "quantize statically (onnxruntime.quantization.quantize_static)",
}


def unsupported(operator: str) -> str:
    """The text for an operator that has no form here."""
    remedy = REMEDIES.get(operator, "the engine has no such layer; take it out of the network, or replace it")
    return f"operator {operator[:60]} is not supported: {remedy}"
