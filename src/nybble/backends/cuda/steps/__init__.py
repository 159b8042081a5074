"""One file per kind of step. Each registers how the GPU runs it; a new file needs no list."""
