"""Float ONNX classifiers as a SOURCE: read, checked, and expressed in the operations that can be quantized."""

from nybble.quantize.sources.onnx.module import OnnxModule, load_onnx

__all__ = ["OnnxModule", "load_onnx"]
