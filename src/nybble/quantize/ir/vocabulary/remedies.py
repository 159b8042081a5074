"""Remedies for operations that are not in the vocabulary, for both front ends."""

from __future__ import annotations

ACTIVATION = "replace the activation by a function of one number, such as ReLU or SiLU, and train the network on"
NORM = "only batch norm can be folded into layers; use a network with batch norm"
CHOICE = "let the network return its logits; whoever reads them chooses classes"
