"""NVRTC's own PTX on the CPU: what the kernels' inline assembly means, which the host's compiler never sees."""
