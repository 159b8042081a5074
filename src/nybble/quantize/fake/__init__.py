"""The fake-quantized network: quantizers, modules that compute what the integer network will, steps."""
