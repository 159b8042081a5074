"""Ranges of activations and weights from histograms."""
