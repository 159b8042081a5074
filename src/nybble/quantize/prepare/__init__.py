"""From the float ir to a fake-quantized network: where to round, and to how many bits."""
