"""What an owner of a GPU runs to say whether the kernels are right there, and how fast: see ``docs/gpu.md``.

A bundle has everything: machine code, launches, memory, expected values. What runs it needs NumPy, cuda-core and
cuda-bindings, and no compiled part of nybble.
"""
