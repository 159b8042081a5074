"""From a fake-quantized network to the integer graph and back, and the agreement of the two."""
