"""From a fake-quantized network to the integer graph, back, and how well the two agree."""
