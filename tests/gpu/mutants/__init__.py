"""Changed copies of the kernels: what must be noticed."""
