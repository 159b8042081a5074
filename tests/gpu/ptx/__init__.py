"""An interpreter of PTX. It covers the inline assembly of the kernels, which the host's compiler cannot compile."""
