"""Tests the kernels on a GPU and measures their speed: see ``docs/gpu.md``.

A bundle contains machine code, launches, memory and expected values. Running it needs NumPy, cuda-core and
cuda-bindings, but no compiled part of nybble.
"""
