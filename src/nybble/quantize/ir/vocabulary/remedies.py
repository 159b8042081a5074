"""What to do about operations that no network may consist of, in the words of both front ends."""

from __future__ import annotations

ACTIVATION = "replace the activation by ReLU or ReLU6 and train the network on"
SIGMOID = f"{ACTIVATION}; one at the end can be left out, as the order of the classes stays"
NORM = "only batch norm can be folded into layers; use a network with batch norm"
CHOICE = "let the network return its logits; whoever reads them chooses classes"
